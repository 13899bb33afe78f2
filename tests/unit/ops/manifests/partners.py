"""Two programs that write in turns, each into a volume of its own: what a photograph shows tells its instant.

They play the parts of pods of one machine: the script that runs in pods is told which processes are whose.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from ops.backup.kubernetes.photographs import SCRIPT

GROWS, REWRITTEN = "blocks/blockfile_000000", "log.db"

# Writes a number into two files when the other has written it, and tells the other.
_PARTNER = """
import os, sys
folder, partner = sys.argv[1], int(sys.argv[2])
os.makedirs(f"{folder}/blocks")
files = [open(f"{folder}/{name}", "ab", buffering=0) for name in ("blocks/blockfile_000000", "log.db")]
if sys.argv[3] == "begins":
    os.write(partner, b"x")
number = 0
while os.read(partner, 1):
    for file in files:
        file.write(number.to_bytes(8, "big"))
    number += 1
    os.write(partner, b"x")
"""


@dataclass(frozen=True)
class Partner:
    """A program with its volume."""

    volume: Path
    process: psutil.Process

    def goes_on(self) -> Callable[[], bool]:
        """Gives True once it has written since now."""
        file = self.volume / GROWS
        before = file.stat().st_size if file.exists() else 0
        return lambda: file.exists() and file.stat().st_size > before

    def stands_still(self) -> bool:
        """Was it stopped?"""
        return self.process.status() == psutil.STATUS_STOPPED

    @property
    def script(self) -> str:
        """What runs in a pod, with this program as the pod's."""
        return script_of(f"echo {self.process.pid}")


def script_of(programs: str) -> str:
    """What runs in a pod, where this shell command tells the processes of the pod."""
    assert SCRIPT.endswith("\ntake\n")
    return SCRIPT.removesuffix("take\n") + f"programs() {{ {programs}; }}\ncheck() {{ :; }}\ntake\n"


@contextmanager
def partners(folder: Path) -> Iterator[tuple[Partner, Partner]]:
    """Two that write in turns until the block ends."""
    ends = socket.socketpair()
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, end, role in zip(("first", "second"), ends, ("begins", "follows"), strict=True):
            (folder / name).mkdir(parents=True)
            argv = [sys.executable, "-c", _PARTNER, str(folder / name), str(end.fileno()), role]
            started.append(subprocess.Popen(argv, pass_fds=[end.fileno()]))
        one, other = (
            Partner(folder / name, psutil.Process(process.pid))
            for name, process in zip(("first", "second"), started, strict=True)
        )
        yield one, other
    finally:
        for process in started:
            process.kill()
            process.wait()
        for end in ends:
            end.close()
