#!/bin/sh
# What lies in the Python image, put under a folder: steps.sh CHECKOUT ROOT [VERSION]
# The Dockerfile runs it, and so can anything else that makes a root file system. The Python that runs it must be of
# the version that will run the result. The checkout is one in which `make build` generated the code from protos/.
set -eu
checkout=$1
version=${3:-0.0+unknown}
app=$2/opt/cbmdhi
[ -f "$checkout/cbmdhi/command/v1/command_pb2.py" ] || { echo "run make build first: no code from protos" >&2; exit 1; }
mkdir -p "$app/lib" "$app/app"
python3 -m pip install --disable-pip-version-check --no-input --no-compile --require-hashes --quiet \
  --target "$app/lib" --requirement "$checkout/deploy/images/python/requirements.lock"
# What runs in pods and no more: the files, and the code of the folders, that `contents` names.
while read -r part; do
  (cd "$checkout" && find "$part" -type f \( -name '*.py' -o -name photograph.sh -o -path '*/schema/*' \) -print0) |
    tar -C "$checkout" --null --files-from=- -cf - | tar -C "$app/app" -xf -
done < "$checkout/deploy/images/python/contents"
# Its version, as an installed distribution tells it.
mkdir "$app/app/cbmdhi-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: cbmdhi\nVersion: %s\n' "$version" > "$app/app/cbmdhi-$version.dist-info/METADATA"
# The image's own inventory: the lock is what was installed, file by file. Its maker stays out of the image.
maker=$(mktemp -d)
trap 'rm -rf "$maker"' EXIT
python3 -m pip install --disable-pip-version-check --no-input --require-hashes --quiet \
  --target "$maker" --requirement "$checkout/deploy/images/python/sbom.lock"
PYTHONPATH=$maker python3 -m cyclonedx_py requirements --output-file "$app/sbom.cdx.json" \
  "$checkout/deploy/images/python/requirements.lock"
# The root file system is read-only: nothing can be compiled later.
python3 -m compileall -q -j 0 "$app/lib" "$app/app"
