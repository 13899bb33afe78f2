"""Container images as archives (`docker save`'s format): one layer of files, and how they are run."""

import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def settings(dockerfile: str) -> dict[str, Any]:
    """What the last stage of a Dockerfile says about running: `Env`, `User`, `WorkingDir`."""
    lines = dockerfile.replace("\\\n", " ").splitlines()
    stage = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    found: dict[str, Any] = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]}
    for line in lines[stage + 1 :]:
        keyword, _, value = line.partition(" ")
        if keyword == "ENV":
            given = value.split()
            names = {variable.partition("=")[0] for variable in given}
            kept = [known for known in found["Env"] if known.partition("=")[0] not in names]
            found["Env"] = [*kept, *given]
        elif keyword == "USER":
            found["User"] = value.strip()
        elif keyword == "WORKDIR":
            found["WorkingDir"] = value.strip()
    return found


def write(path: Path, name: str, root: Path, config: dict[str, Any], machine: str) -> None:
    """Write the image `name` with the files of `root`, owned by root, in one step.

    `config`: of the OCI image specification, such as `settings` gives; `machine`: as `uname -m` says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with tempfile.TemporaryFile(dir=path.parent) as layer:
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(root, arcname=".", filter=_of_root)
        size = layer.tell()
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        layer.seek(0)
        document = json.dumps(
            {
                "architecture": _ARCHITECTURES.get(machine, machine),
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
        ).encode()
        identity = f"{hashlib.sha256(document).hexdigest()}.json"
        manifest = [{"Config": identity, "RepoTags": [name], "Layers": ["layer.tar"]}]
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, identity, io.BytesIO(document), len(document))
            _add(tar, "layer.tar", layer, size)
            said = json.dumps(manifest).encode()
            _add(tar, "manifest.json", io.BytesIO(said), len(said))
    unfinished.replace(path)


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    # Compiled Python names the second in which its source was changed: times are kept, in whole seconds.
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = int(entry.mtime)
    # Whatever the mask of whoever made it: what its owner may read or run, everybody may.
    entry.mode |= (entry.mode & 0o500) >> 3 | (entry.mode & 0o500) >> 6
    return entry


def _add(tar: tarfile.TarFile, name: str, content: Any, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    tar.addfile(entry, content)
