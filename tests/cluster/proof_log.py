"""What was proved, step by step, with the time since the beginning."""

import sys
import time
from typing import TextIO


class Account:
    """Prints as it is told. `begun`: as `time.monotonic` says, one clock for the whole machine."""

    def __init__(self, begun: float | None = None, stream: TextIO | None = None) -> None:
        self._begun = time.monotonic() if begun is None else begun
        self._stream = stream or sys.stdout
        self.proofs = 0

    def step(self, title: str) -> None:
        """A step begins."""
        self._print("")
        self._line(title)

    def proved(self, text: str) -> None:
        """Something was seen to hold."""
        self.proofs += 1
        self._line(f"  ✓  {text}")

    def failed(self, text: str) -> None:
        """Something did not hold."""
        self._line(f"  ✗  {text}")

    def note(self, text: str) -> None:
        """Something else that is worth a line."""
        self._line(f"     {text}")

    def _line(self, text: str) -> None:
        self._print(f"{time.monotonic() - self._begun:6.1f} s  {text}")

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
