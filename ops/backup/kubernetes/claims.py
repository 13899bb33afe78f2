"""A backup's files, put into the volumes that they were taken from. No API server in here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.backup import recovery_key, stores
from ops.backup.archive import NAMESPACE, About, Counted, unpack
from ops.backup.errors import BackupError
from ops.backup.kubernetes.api import Document
from ops.backup.recovery_key import Recovery
from ops.backup.sealed import SealedReader

# In a backup: the list of the claims that it holds.
HELD = "claims.json"
# Nothing of this name is photographed: photograph.sh.
_OURS = ".cbmdhi-"
_ARRIVING = f"{_OURS}restored"
_OF_THE_DISK = "lost+found"


@dataclass(frozen=True)
class Arrived:
    """A backup of which every byte was checked: in the volumes, and not yet in place.

    objects  the Secrets and ConfigMaps that it holds
    """

    about: About
    holds: Counted
    objects: Sequence[Document]
    volumes: Sequence[Path]


@contextmanager
def arrived(place: str, key: Path, claims: Path, scratch: Path) -> Iterator[Arrived]:
    """Read a backup into the volumes mounted below `claims`, by the names of their claims, and check it.

    What the volumes hold stays as it is. What is not put in place before the block's end is removed again.

    scratch  an empty folder in memory: Secrets come to lie there

    Raises:
        BackupError: the backup is not whole, not for this key, or of other claims than these.
    """
    recovery = recovery_key.recovery(key)
    volumes = sorted(claims.iterdir())
    _clear(volumes)
    try:
        yield _read(place, recovery, volumes, scratch)
    finally:
        _clear(volumes)


def _read(place: str, recovery: Recovery, volumes: Sequence[Path], scratch: Path) -> Arrived:
    try:
        (scratch / "claims").mkdir()
        for volume in volumes:
            (volume / _ARRIVING).mkdir(mode=0o700)
            # What is written below the link comes to lie in the volume itself.
            (scratch / "claims" / volume.name).symlink_to(volume / _ARRIVING)
        with stores.reading(place) as source:
            about, holds = unpack(SealedReader(source, recovery), scratch, lambda _: None)
    except OSError as exc:
        told = f"{exc.filename or 'A volume'} cannot be written: {exc.strerror or exc}."
        raise BackupError(told, "A volume needs room for what it holds and for what comes back.") from exc
    if about.kind != NAMESPACE:
        raise BackupError("The backup is of a laptop network.", "Give it back there: cbmdhi restore.")
    held, mounted = set(json.loads((scratch / HELD).read_text())), {volume.name for volume in volumes}
    if held != mounted:
        raise BackupError(
            f"The backup and this Job are not of the same claims: {', '.join(sorted(held ^ mounted))}.",
            "Mount what the backup holds: deploy/k8s/components/backup/restore.yaml.",
        )
    objects = [json.loads(path.read_text()) for path in sorted((scratch / "objects").iterdir())]
    return Arrived(about, holds, objects, volumes)


def _clear(volumes: Iterable[Path]) -> None:
    for volume in volumes:
        shutil.rmtree(volume / _ARRIVING, ignore_errors=True)


def put(volumes: Iterable[Path]) -> str:
    """Move what was there aside, and what arrived into its place.

    Gives the name of the folder in each volume that holds the former.
    """
    aside = f"{_OURS}replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for volume in volumes:
        there = [
            path for path in volume.iterdir() if not path.name.startswith(_OURS) and path.name != _OF_THE_DISK
        ]
        (volume / aside).mkdir(mode=0o700)
        for path in there:
            path.rename(volume / aside / path.name)
        for path in (volume / _ARRIVING).iterdir():
            path.rename(volume / path.name)
    os.sync()
    return aside
