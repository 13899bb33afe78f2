#!/bin/sh
# The messages and the program. protoc: any; PyPI's grpcio-tools has one, as `python -m grpc_tools.protoc`.
set -e
cd "$(dirname "$0")"
# [start:recipe]
PROTOS=${PROTOS:-../../../protos} # of the clone
# The generators, of the versions that go.mod pins.
go build -o .bin/ tool
export PATH="$PWD/.bin:$PATH"
(cd "$PROTOS" && find cbmdhi -name '*.proto') |
	xargs ${PROTOC:-protoc} -I "$PROTOS" \
		--go_out="$PROTOS/go" --go_opt=module=cbmdhi.internal/protos \
		--go-grpc_out="$PROTOS/go" --go-grpc_opt=module=cbmdhi.internal/protos
# [end:recipe]
go build -o .bin/engine .
