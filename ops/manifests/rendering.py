"""What an overlay of deploy/k8s comes to."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from ops.devnet.layout import ROOT, tool

Document = dict[str, Any]

OVERLAYS = ROOT / "deploy" / "k8s" / "overlays"
WORKLOADS = ("Deployment", "StatefulSet")


def names() -> list[str]:
    """Every overlay."""
    return sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))


def render(overlay: str) -> list[Document]:
    """The documents of an overlay.

    Raises:
        ValueError: kustomize refuses it; its words.
    """
    return build(OVERLAYS / overlay)


def build(folder: Path) -> list[Document]:
    """The documents of any kustomization. See `render`."""
    built = subprocess.run(
        [str(tool("kustomize")), "build", str(folder)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise ValueError(f"{folder.name}: {built.stderr.strip()}")
    # The loader in C: an overlay is thousands of lines.
    return list(yaml.load_all(built.stdout, Loader=yaml.CSafeLoader))


def workloads(documents: list[Document]) -> list[Document]:
    """Deployments and StatefulSets."""
    return [document for document in documents if document["kind"] in WORKLOADS]
