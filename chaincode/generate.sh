#!/bin/sh
# Generates chaincode/gen/ from protos/cbmdhi/command/v1. Run from anywhere.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .tools/bin chaincode/gen
(cd deploy/toolchain/protoc-gen-go && go build -o ../../../.tools/bin/ tool)
"${PYTHON:-.venv/bin/python}" -m grpc_tools.protoc -I protos \
  --plugin=protoc-gen-go=.tools/bin/protoc-gen-go \
  --go_out=chaincode/gen --go_opt=module=cbmdhi/chaincode/gen \
  cbmdhi/command/v1/code.proto cbmdhi/command/v1/command.proto cbmdhi/command/v1/state.proto
