"""What lies inside the sealed stream: a tar of files, then a manifest with the size and hash of each."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, cast

from ops.backup.errors import BackupError

_ABOUT = "about.json"
_MANIFEST = "manifest.json"
_FILES = PurePosixPath("files")
_PIECE = 1 << 20
_LARGEST_DOCUMENT = 1 << 28
_TAKE_ANOTHER = "Take another backup; this one was not used."


# What a backup was taken from: folders of a laptop network; claims and Secrets of a Kubernetes namespace.
NETWORK, NAMESPACE = "network", "namespace"
# Longer is an outage: the guard ends it and the backup is given up.
LONGEST_SECONDS = 10.0
# Files whose path this matches keep the bytes that they have: tables of LevelDB and pebble are written once,
# Fabric's block files only grow. It is a POSIX extended regular expression, too.
LINKED = r".*/([^/]*\.(ldb|sst)|blockfile_[^/]*)"


@dataclass(frozen=True)
class About:
    """What a backup is of. `network`: hash of the channel's genesis; `taken`: when, UTC, ISO 8601.

    kind  NETWORK or NAMESPACE: the one is not given back to the other
    """

    version: int
    organisation: str
    network: str
    taken: str
    cbmdhi: str
    kind: str = NETWORK


@dataclass(frozen=True)
class Counted:
    """How many files and bytes a backup holds."""

    files: int
    size: int


@dataclass(frozen=True)
class Backup:
    """What was taken. `frozen_seconds`: how long the member's programs stood still."""

    place: str
    organisation: str
    taken: str
    holds: Counted
    frozen_seconds: float
    copied_bytes: int
    sealed_to: Sequence[str]


class Readable(Protocol):
    """Where bytes come from."""

    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> int: ...


@dataclass(frozen=True)
class Taken:
    """A file or folder to be packed: `source` as `name`. `size`: how many bytes of it count.

    source  a file, or where its bytes come next, which gives all that it is asked for until it ends
    """

    name: str
    source: Path | Readable
    mode: int
    size: int
    is_folder: bool = False


def pack(out: Writable, about: About, taken: Iterable[Taken], told: Callable[[int], None]) -> Counted:
    """Write the archive. `told` is given the bytes of each file as it is done.

    Raises:
        BackupError: a file became shorter meanwhile.
    """
    manifest: dict[str, Any] = {}
    total = 0
    with tarfile.open(fileobj=cast(BinaryIO, out), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add_document(tar, _ABOUT, asdict(about))
        for each in taken:
            info = tarfile.TarInfo(str(_FILES / each.name))
            info.mode = each.mode
            if each.is_folder:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                continue
            info.size = each.size
            with _opened(each.source) as stream:
                hashed = _Hashing(stream)
                try:
                    tar.addfile(info, cast(io.BufferedReader, hashed))
                except OSError as exc:
                    raise BackupError(f"{each.name} cannot be read whole: {exc}.", "Try again.") from exc
            manifest[each.name] = {"size": each.size, "sha256": hashed.hexdigest()}
            total += each.size
            told(each.size)
            # Otherwise the library keeps an entry for each file until the end.
            tar.members.clear()  # type: ignore[attr-defined]
        _add_document(tar, _MANIFEST, {"files": manifest})
    return Counted(len(manifest), total)


def unpack(source: Readable, folder: Path | None, told: Callable[[int], None]) -> tuple[About, Counted]:
    """Read an archive to its end, check it against its manifest, and write its files below `folder`.

    `folder`: new and empty; None only checks. Nothing below it is to be used when this raises.

    Raises:
        BackupError: the archive is not whole, or not one.
    """
    found: dict[str, dict[str, Any]] = {}
    modes: list[tuple[Path, int]] = []
    about: About | None = None
    manifest: dict[str, Any] | None = None
    try:
        with tarfile.open(fileobj=cast(BinaryIO, source), mode="r|") as tar:
            for info in tar:
                if info.name == _ABOUT:
                    about = _about(_document(tar, info))
                elif info.name == _MANIFEST:
                    manifest = _document(tar, info)["files"]
                else:
                    name = _safe(info)
                    target = None if folder is None else folder / name
                    if info.isdir():
                        if target is not None:
                            target.mkdir(mode=0o700, parents=True, exist_ok=True)
                            modes.append((target, info.mode))
                        continue
                    found[name] = _extract(tar, info, target)
                    told(info.size)
                tar.members.clear()  # type: ignore[attr-defined]
        # What follows the tar's end must be the stream's end, or the last chunk was not checked.
        while rest := source.read(_PIECE):
            if rest.strip(b"\x00"):
                raise BackupError("The backup holds something after its end.", _TAKE_ANOTHER)
    except (tarfile.TarError, EOFError, KeyError, TypeError, ValueError) as exc:
        raise BackupError(f"The backup's inside is damaged ({exc}).", _TAKE_ANOTHER) from exc
    if about is None or manifest is None:
        raise BackupError("The backup has no manifest: it was never finished.", _TAKE_ANOTHER)
    if found != manifest:
        wrong = sorted(name for name in {*found, *manifest} if found.get(name) != manifest.get(name))
        raise BackupError(f"{wrong[0]} in the backup is not what its manifest says.", _TAKE_ANOTHER)
    for path, mode in reversed(modes):
        path.chmod(mode)
    return about, Counted(len(found), sum(each["size"] for each in found.values()))


def _opened(source: Path | Readable) -> AbstractContextManager[Readable]:
    return source.open("rb") if isinstance(source, Path) else nullcontext(source)


class _Hashing:
    """Hashes what is read through it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _add_document(tar: tarfile.TarFile, name: str, document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _document(tar: tarfile.TarFile, info: tarfile.TarInfo) -> dict[str, Any]:
    stream = tar.extractfile(info) if info.size <= _LARGEST_DOCUMENT else None
    if stream is None:
        raise ValueError(f"{info.name} is no document")
    return json.loads(stream.read())


def _about(document: dict[str, Any]) -> About:
    about = About(**document)
    if about.version != 1:
        raise BackupError(
            f"The backup has version {about.version}; this program reads 1.",
            f"Use the cbmdhi that made it ({about.cbmdhi}).",
        )
    return about


def _safe(info: tarfile.TarInfo) -> str:
    """The name of a file or folder of the backup, which leads nowhere else."""
    path = PurePosixPath(info.name)
    if not (info.isreg() or info.isdir()) or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{info.name} has no place in a backup")
    return str(path.relative_to(_FILES))


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo, target: Path | None) -> dict[str, Any]:
    stream = tar.extractfile(info)
    if stream is None:
        raise ValueError(f"{info.name} has no content")
    digest, size = hashlib.sha256(), 0
    if target is not None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(target or os.devnull, os.O_WRONLY | (os.O_CREAT | os.O_EXCL if target else 0), 0o600)
    with os.fdopen(descriptor, "wb") as out:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            out.write(piece)
        if target is not None:
            out.flush()
            os.fchmod(out.fileno(), stat.S_IMODE(info.mode))
            os.fsync(out.fileno())
    return {"size": size, "sha256": digest.hexdigest()}
