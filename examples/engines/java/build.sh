#!/bin/sh
# Maven fetches protoc and its generator, generates from protos/, compiles, and makes one jar.
set -e
cd "$(dirname "$0")"
# Half the processor time: this runs for too short to be worth optimizing.
export MAVEN_OPTS="${MAVEN_OPTS:--XX:TieredStopAtLevel=1 -XX:+UseSerialGC}"
mvn --batch-mode --quiet package
