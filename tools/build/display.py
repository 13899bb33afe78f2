"""Shows what the build is doing: which step, how long it has taken, how long it is expected to take."""

import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

REFRESH_SECONDS = 0.2
HEARTBEAT_SECONDS = 20.0


@dataclass
class _Line:
    title: str
    expected: float
    started: float
    told: float = field(default=0.0)


class Display:
    """A few live lines on a terminal; plain lines, with a sign of life now and then, elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._lines: dict[str, _Line] = {}
        self._drawn = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> "Display":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        with self._lock:
            self._erase()

    def start(self, step: str, title: str, expected: float) -> None:
        """A step has begun; `expected` in seconds."""
        now = time.monotonic()
        with self._lock:
            self._lines[step] = _Line(title, expected, now, now)
            if not self._live:
                self._say(f"  …  {title} (about {_clock(expected)})")

    def finish(self, step: str, seconds: float) -> None:
        """A step is done."""
        with self._lock:
            line = self._lines.pop(step)
            self._above(f"  ✓  {line.title:<58} {_clock(seconds):>7}")

    def fail(self, step: str) -> None:
        """A step ended in an error, which the caller tells."""
        with self._lock:
            line = self._lines.pop(step)
            self._above(f"  ✗  {line.title}")

    def note(self, text: str) -> None:
        """One line of its own."""
        with self._lock:
            self._above(text)

    def _refresh(self) -> None:
        while not self._done.wait(REFRESH_SECONDS):
            with self._lock:
                if self._live:
                    self._erase()
                    self._draw()
                else:
                    self._heartbeat()

    def _draw(self) -> None:
        now = time.monotonic()
        for line in self._lines.values():
            elapsed = now - line.started
            part = min(elapsed / line.expected, 1.0) if line.expected > 0 else 1.0
            bar = "█" * round(part * 16)
            self._stream.write(
                f"  …  {line.title:<58} {_clock(elapsed):>7} of about {_clock(line.expected):<7} {bar:<16}\n"
            )
        self._drawn = len(self._lines)
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _above(self, text: str) -> None:
        if self._live:
            self._erase()
        self._say(text)

    def _say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _heartbeat(self) -> None:
        now = time.monotonic()
        for line in self._lines.values():
            if now - line.told >= HEARTBEAT_SECONDS:
                line.told = now
                self._say(f"  …  {line.title}: {_clock(now - line.started)} of about {_clock(line.expected)}")


def _clock(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d}" if minutes else f"{rest} s"
