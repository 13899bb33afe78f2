"""The definitions of the custom resources in use, out of their projects' Go modules: go.sum verifies them.

All three are under the Apache License 2.0. Nothing of them is copied into this repository.
"""

import json
import subprocess
from pathlib import Path

from ops.devnet.layout import ROOT

_TOOLCHAIN = ROOT / "deploy" / "toolchain" / "kubernetes-crds"
_FILES = {
    "github.com/cert-manager/cert-manager": (
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_issuers.yaml",
    ),
    "github.com/kedacore/keda/v2": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
}


def files() -> list[Path]:
    """Where the definitions lie: in Go's module cache, fetched there when they are not yet.

    Raises:
        subprocess.CalledProcessError: a module cannot be had, or is not what go.sum says.
    """
    fetched = subprocess.run(
        ["go", "mod", "download", "-json", *_FILES],
        cwd=_TOOLCHAIN,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[Path] = []
    decoder, rest = json.JSONDecoder(), fetched.stdout.strip()
    while rest:
        module, end = decoder.raw_decode(rest)
        found += [Path(module["Dir"]) / name for name in _FILES[module["Path"]]]
        rest = rest[end:].strip()
    return found
