#!/bin/sh
# Packages with hashes. Nothing is generated: the protos are read when the engine starts.
set -e
cd "$(dirname "$0")"
${NPM:-npm} ci --ignore-scripts --no-audit --no-fund --loglevel=error
