"""With what `cbmdhi` ends, and the one shape of every failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """Exit status. `MEANING` says each in a sentence; docs/cli.md shows the table."""

    DONE = 0
    FAILED = 1
    MISTYPED = 2
    UNKNOWN = 3
    NOT_NOW = 4
    FAULT = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANING: dict[Status, str] = {
    Status.DONE: "Done. Of `status`, `doctor`, `verify` and `hammer`: and everything is as it should be.",
    Status.FAILED: "Refused or failed, for good as it is: the code says why. "
    "Of `status`, `doctor`, `verify` and `hammer`: something is not as it should be.",
    Status.MISTYPED: "An argument, a file, a folder or a wallet cannot be used as it is. "
    "Mend it, and type again.",
    Status.UNKNOWN: "Something was signed and sent, and nobody can say what became of it. "
    "Look first, or send exactly the same again with `cbmdhi resend`.",
    Status.NOT_NOW: "Nothing was done: nobody answered, or not in time. The same may be typed again.",
    Status.FAULT: "A fault of this program. Please report what it printed.",
    Status.INTERRUPTED: "Interrupted by Ctrl-C. What was sent and is not known to be done is named, and kept "
    "for `cbmdhi resend`.",
    Status.PIPE_CLOSED: "Whoever read the output has gone, as with `| head`.",
}


class Failure(Exception):
    """What a command ends with when it does not do what was asked.

    code        of the closed list of errors, or USAGE, FILE, INTERRUPTED, INTERNAL, UNAVAILABLE
    reason      a sentence
    path        where in what was given
    next_steps  lines that a person types or reads next
    document    more for machines
    """

    def __init__(
        self,
        code: str,
        reason: str,
        *,
        status: Status = Status.FAILED,
        path: str = "",
        next_steps: Sequence[str] = (),
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.status = status
        self.path = path
        self.next_steps = tuple(next_steps)
        self.document = dict(document or {})

    def for_machines(self) -> dict[str, Any]:
        """What `--json` prints."""
        error = {"code": self.code, "reason": self.reason, "path": self.path, "exit": int(self.status)}
        return {"error": error | {"next": list(self.next_steps)} | self.document}
