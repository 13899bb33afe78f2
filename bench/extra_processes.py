"""Processes that a measurement starts beside the network's own: awaited when they start, ended with it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from ops.devnet import processes
from ops.devnet.waiting import until


def wait_ready(
    name: str, ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float
) -> None:
    """Return when it is ready. Raises NotReady, with its last words, when it ended or took too long."""
    until(
        ready,
        lambda: f"An answer of the measurement's {name}",
        seconds,
        remedy=lambda: _last_words(log),
        give_up=lambda: None if process.poll() is None else f"The measurement's {name} ended at once.",
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End it: asked first, and killed when it does not."""
    if process.poll() is None:
        processes.end([psutil.Process(process.pid)])
        process.wait()


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
