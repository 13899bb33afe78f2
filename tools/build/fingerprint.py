"""Has anything that a step is made from changed? Content decides, never times."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def of(root: Path, files: Iterable[Path], extra: Iterable[str] = ()) -> str:
    """Hex digest over the names and contents of `files` (under `root`) and over `extra` texts."""
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(b"file\0" + str(path.relative_to(root)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for text in extra:
        digest.update(b"text\0" + text.encode() + b"\0")
    return digest.hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What a step was last made from, and how long it took."""

    fingerprint: str
    seconds: float


class Stamps:
    """The stamps of all steps, a small JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, step: str) -> Stamp | None:
        """The stamp of a step, or None when it was never finished (or its stamp is unreadable)."""
        try:
            document = json.loads((self._folder / f"{step}.json").read_text())
            return Stamp(str(document["fingerprint"]), float(document["seconds"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, step: str, stamp: Stamp) -> None:
        """Record that a step is finished."""
        self._folder.mkdir(parents=True, exist_ok=True)
        document = {"fingerprint": stamp.fingerprint, "seconds": round(stamp.seconds, 1)}
        (self._folder / f"{step}.json").write_text(json.dumps(document) + "\n")
