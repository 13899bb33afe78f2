"""What was proved, step by step, with the time since the beginning."""

import sys
import time
from typing import TextIO


class Account:
    """Prints as it is told."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._begun = time.monotonic()
        self.proofs = 0

    def step(self, title: str) -> None:
        """A step begins."""
        self._print(f"\n{self._elapsed()}  {title}")

    def proved(self, text: str) -> None:
        """Something was seen to hold."""
        self.proofs += 1
        self._print(f"{self._elapsed()}    ✓  {text}")

    def note(self, text: str) -> None:
        """Something else that is worth a line."""
        self._print(f"{self._elapsed()}       {text}")

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._begun:6.1f} s"

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
