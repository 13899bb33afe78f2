#!/bin/sh
# Packages with hashes, then the messages: they come to lie in cbmdhi/ beside the program.
set -e
cd "$(dirname "$0")"
# [start:recipe]
PROTOS=${PROTOS:-../../../protos} # of the clone
${PYTHON:-python3} -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
(cd "$PROTOS" && find cbmdhi -name '*.proto') |
	xargs .venv/bin/python -m grpc_tools.protoc -I "$PROTOS" --python_out=. --grpc_python_out=.
# [end:recipe]
