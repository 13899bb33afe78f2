#!/bin/sh
# What lies in the Go image, put under a folder: steps.sh CHECKOUT ROOT
# The Dockerfile runs it, and so can anything else that makes a root file system. Programs that the checkout has built
# (.tools/bin) are taken as they are; what is missing is built. The C library must be that of the image's base.
set -eu
checkout=$1
root=$2
bin=$root/usr/local/bin
mkdir -p "$bin" "$root/opt/cbmdhi/sbom"
[ -d "$checkout/chaincode/gen" ] || { echo "run make build first: no code from protos" >&2; exit 1; }
build() { # PROGRAM FOLDER PACKAGE LINKER-FLAGS [FLAG]
  if [ -x "$checkout/.tools/bin/$1" ]; then
    cp "$checkout/.tools/bin/$1" "$bin/$1"
  else
    (cd "$checkout/$2" && go build -buildvcs=false -trimpath ${5-} -ldflags "-s -w $4" -o "$bin/$1" "$3")
  fi
  # The program's own inventory: the modules that it was really linked from.
  go version -m -json "$bin/$1" >"$root/opt/cbmdhi/sbom/$1.json"
}
fabric=github.com/hyperledger/fabric
# One mended copy for both (docs/adr/0031).
mended=$checkout/.tools/work/fabric-mended
version="-X $fabric/common/metadata.Version=v3.1.1+cbmdhi.3"
if [ ! -x "$checkout/.tools/bin/peer" ] || [ ! -x "$checkout/.tools/bin/orderer" ]; then
  mkdir -p "$checkout/.tools/work"
  (cd "$checkout/deploy/toolchain/fabric" && go run ./mend "$mended")
fi
build peer deploy/toolchain/fabric $fabric/cmd/peer "$version" "-modfile=$mended.mod"
build orderer deploy/toolchain/fabric $fabric/cmd/orderer "$version" "-modfile=$mended.mod"
build fabric-ca-server deploy/toolchain/fabric-ca $fabric-ca/cmd/fabric-ca-server "-X $fabric-ca/lib/metadata.Version=1.5.15"
build ipfs deploy/toolchain/kubo github.com/ipfs/kubo/cmd/ipfs ""
build cbmdhi-chaincode chaincode . ""
# The peer runs these three to learn that a chaincode is a service: they want a shell, tr, grep and cp in the base.
mkdir -p "$root/opt/cbmdhi/ccaas/bin"
cp "$checkout"/deploy/devnet/ccaas/bin/* "$root/opt/cbmdhi/ccaas/bin/"
chmod 755 "$root"/opt/cbmdhi/ccaas/bin/*
