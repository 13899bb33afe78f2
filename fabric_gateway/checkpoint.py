"""Where a reader of events goes on after a pause, a crash or a new start."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import BadCheckpoint


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The place behind what was handled last.

    block_number    the block to go on with
    transaction_id  in that block, the transaction whose event was the last; "" for all of the block. A
                    transaction that is not in that block is waited for without end
    """

    block_number: int
    transaction_id: str = ""


class CheckpointFile:
    """A checkpoint on disk. One reader at a time has the file.

    Saved after an event is handled, it has every event handled at least once: the last one again when the
    program ended between handling and saving. Whatever must happen once is made so that it can be done twice.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def load(self) -> Checkpoint | None:
        """None when nothing was saved yet. Raises BadCheckpoint, OSError."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return None
        try:
            document = json.loads(text)
            number, transaction_id = document["block"], document["transaction"]
        except (ValueError, KeyError, TypeError) as exc:
            raise BadCheckpoint(f"{self.path} is no checkpoint") from exc
        if type(number) is not int or number < 0 or not isinstance(transaction_id, str):
            raise BadCheckpoint(f"{self.path} is no checkpoint")
        return Checkpoint(number, transaction_id)

    def save(self, checkpoint: Checkpoint) -> None:
        """On the disk when this returns; a reader sees the old one or the new one. Raises OSError."""
        text = json.dumps({"block": checkpoint.block_number, "transaction": checkpoint.transaction_id})
        temporary = self.path.with_name(f".{self.path.name}.new")
        with temporary.open("w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
