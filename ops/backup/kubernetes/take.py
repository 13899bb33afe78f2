"""Backs up the member whose namespace this pod is in: `python -m ops.backup.kubernetes.take`.

/etc/backup/place says where to: a file, `s3://BUCKET/NAME`, or either with / at its end, to be named by
time; /etc/backup/*.pub are the recovery keys that it is sealed to, *.sign those that it is signed with.
Prints JSON; ends with 1 when there is no backup.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbmdhi
from ops.backup import recovery_key, stores
from ops.backup.archive import NAMESPACE, About, Backup, Counted, Taken, pack
from ops.backup.errors import BackupError
from ops.backup.kubernetes import api, stateful
from ops.backup.kubernetes.api import Api, Document
from ops.backup.kubernetes.claims import HELD
from ops.backup.kubernetes.photographs import Photograph, photographs
from ops.backup.sealed import SealedWriter

SETTINGS = Path("/etc/backup")
# What an operator makes beside the Secrets (docs/kubernetes.md); the rest is in the overlay.
RELEASE = "chaincode-release"
CONFIG_MAPS = ("consortium", RELEASE)
WORKLOADS = ("statefulsets", "deployments")


def main() -> int:
    """Take it; the exit code."""
    return run(lambda: _main(*_settings()))


def run(work: Callable[[], Coroutine[Any, Any, Document]]) -> int:
    """Do it, and print as JSON what came of it; the exit code."""
    try:
        print(json.dumps(asyncio.run(_until_ended(work))), flush=True)
    except BackupError as exc:
        print(json.dumps({"error": {"problem": exc.problem, "remedy": exc.remedy}}), flush=True)
        return 1
    except asyncio.CancelledError:
        print(json.dumps({"error": {"problem": "It was ended from outside.", "remedy": "Try again."}}))
        return 1
    return 0


async def take(server: Api, place: str, recipients: Sequence[Path]) -> Backup:
    """Back up the namespace to `place`, sealed to public recovery keys and signed.

    Raises:
        BackupError: nothing was left at `place`, and all programs go on.
    """
    keys = [recovery_key.recipient(file) for file in recipients]
    workloads = {kind: await server.every(kind) for kind in WORKLOADS}
    volumes = stateful.volumes(workloads["statefulsets"])
    beside = [
        *[await _found(server, "secrets", name) for name in mounted(itertools.chain(*workloads.values()))],
        *[await _found(server, "configmaps", name) for name in CONFIG_MAPS],
    ]
    network = next(doc["data"]["genesis-sha256"] for doc in beside if doc["metadata"]["name"] == RELEASE)
    now = datetime.now(UTC)
    place = stores.named(place, server.namespace, now)
    about = About(1, server.namespace, network, now.isoformat(), cbmdhi.__version__, NAMESPACE)
    with stores.writing(place) as sink:
        sealed = SealedWriter(sink, keys)
        async with photographs(server, volumes) as taken:
            holds = await asyncio.to_thread(_packed, sealed, about, beside, taken)
        sealed.finish()
    fingerprints = [key.fingerprint for key in keys]
    frozen = max(each.seconds for each in taken)
    copied = sum(each.copied_bytes for each in taken)
    return Backup(place, server.namespace, about.taken, holds, frozen, copied, fingerprints)


def _packed(
    sealed: SealedWriter, about: About, beside: Sequence[Document], taken: Sequence[Photograph]
) -> Counted:
    held = _document(HELD, [each.claim for each in taken])
    objects = (
        _document(f"objects/{found['kind']}-{found['metadata']['name']}.json", found) for found in beside
    )
    everything = itertools.chain([held], objects, *(each.contents() for each in taken))
    return pack(sealed, about, everything, lambda _: None)


def mounted(workloads: Iterable[Document]) -> list[str]:
    """The Secrets that pods mount."""
    volumes = (
        volume for found in workloads for volume in found["spec"]["template"]["spec"].get("volumes", [])
    )
    return sorted({volume["secret"]["secretName"] for volume in volumes if "secret" in volume})


async def _found(server: Api, kind: str, name: str) -> Document:
    """An object as it is made again: without what the cluster writes into it."""
    found = await server.find(kind, name)
    if found is None:
        raise BackupError(f"{name} is not among the {kind} of {server.namespace}.", "docs/kubernetes.md")
    kept = {key: found[key] for key in ("type", "data", "binaryData") if key in found}
    names = {"secrets": "Secret", "configmaps": "ConfigMap"}
    return {"apiVersion": "v1", "kind": names[kind], "metadata": {"name": name}, **kept}


def _document(name: str, document: object) -> Taken:
    content = json.dumps(document).encode()
    return Taken(name, io.BytesIO(content), 0o600, len(content))


async def _until_ended(work: Callable[[], Coroutine[Any, Any, Document]]) -> Document:
    """SIGTERM cancels the work: it is undone in order."""
    task = asyncio.ensure_future(work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _settings() -> tuple[str, list[Path]]:
    """Where to, and the recovery keys."""
    try:
        return (SETTINGS / "place").read_text().strip(), sorted(SETTINGS.glob("*.pub"))
    except OSError as exc:
        told = f"{exc.filename} cannot be read: {exc.strerror}."
        raise BackupError(told, "Make the ConfigMap and the Secret `backup`: docs/kubernetes.md.") from exc


async def _main(place: str, recipients: Sequence[Path]) -> Document:
    async with api.inside() as server:
        return asdict(await take(server, place, recipients))


if __name__ == "__main__":
    sys.exit(main())
