#!/bin/sh
# The messages and the program. protoc: any; PyPI's grpcio-tools has one, as `python -m grpc_tools.protoc`.
set -e
cd "$(dirname "$0")"
# [start:recipe]
# The generators, of the versions that go.mod pins.
go build -o .bin/ tool
export PATH="$PWD/.bin:$PATH"
(cd ../../../protos && find cbmdhi -name '*.proto') |
	xargs ${PROTOC:-protoc} -I ../../../protos \
		--go_out=../../../protos/go --go_opt=module=cbmdhi.internal/protos \
		--go-grpc_out=../../../protos/go --go-grpc_opt=module=cbmdhi.internal/protos
# [end:recipe]
go build -o .bin/engine .
