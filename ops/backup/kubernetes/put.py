"""Gives a member's volumes back, in a pod that mounts them: `python -m ops.backup.kubernetes.put`.

/run/secrets/restore holds `place`, where the backup lies, and `recovery.key`, the private recovery key.
Nothing is touched before every byte of the backup was checked. Prints JSON; ends with 1 when it was refused.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from ops.backup.archive import About
from ops.backup.errors import BackupError
from ops.backup.kubernetes import api, claims
from ops.backup.kubernetes.api import Api, Document
from ops.backup.kubernetes.take import RELEASE, run

SECRET = Path("/run/secrets/restore")
CLAIMS = Path("/claims")
SCRATCH = Path("/scratch")
_KINDS = {"Secret": "secrets", "ConfigMap": "configmaps"}
_ENDED = ("Succeeded", "Failed")


def main() -> int:
    """Do it; the exit code."""
    return run(_main)


async def restore(server: Api, place: str, key: Path, mounted: Path, scratch: Path, own_pod: str) -> Document:
    """Put a backup into the volumes below `mounted`; what came of it.

    own_pod  the pod that does it, which mounts the claims itself

    Raises:
        BackupError: the backup is not whole or not of this namespace, or somebody uses the claims.
    """
    names = await asyncio.to_thread(os.listdir, mounted)
    await _unused(server, names, own_pod)
    with claims.arrived(place, key, mounted, scratch) as backup:
        await _is_ours(server, backup.about)
        await _unused(server, names, own_pod)
        made = await _made(server, backup.objects)
        aside = claims.put(backup.volumes)
    return {"about": asdict(backup.about), "holds": asdict(backup.holds), "replaced": aside, "made": made}


async def _unused(server: Api, names: Iterable[str], own_pod: str) -> None:
    """Raise BackupError when a pod uses one of these claims."""
    for pod in await server.every("pods"):
        used = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"].get("volumes", [])
            if "persistentVolumeClaim" in volume
        }
        name = pod["metadata"]["name"]
        if name != own_pod and pod.get("status", {}).get("phase") not in _ENDED and used & set(names):
            raise BackupError(f"{name} uses the member's volumes.", "Scale its workload to 0 first.")


async def _is_ours(server: Api, about: About) -> None:
    if about.organisation != server.namespace:
        raise BackupError(
            f"The backup is of {about.organisation}, and this is {server.namespace}.", "Give another one."
        )
    release = await server.find("configmaps", RELEASE)
    if release is not None and release["data"]["genesis-sha256"] != about.network:
        raise BackupError("The backup is of another network than this member's.", "Give another one.")


async def _made(server: Api, objects: Sequence[Document]) -> list[str]:
    """Make the Secrets and ConfigMaps that are not there; which. What is there may be newer, and stays."""
    return [
        f"{document['kind']}/{document['metadata']['name']}"
        for document in objects
        if await server.create(_KINDS[document["kind"]], document)
    ]


async def _main() -> Document:
    place = (await asyncio.to_thread((SECRET / "place").read_text)).strip()
    key, own_pod = SECRET / "recovery.key", os.environ["POD_NAME"]
    async with api.inside() as server:
        return await restore(server, place, key, CLAIMS, SCRATCH, own_pod)


if __name__ == "__main__":
    sys.exit(main())
