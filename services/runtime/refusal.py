"""Why a rule refuses something. Rules know no gRPC: `errors.refusals` makes the error that callers get."""

from __future__ import annotations

from cbmdhi.command.v1.code_pb2 import Code


class Refused(Exception):
    """A code, a sentence that a person can act on (no personal data), and where.

    path            such as `body.put_record.patient`, or `Observation.status` inside a resource
    index           which command of the group, when one is to blame
    retry_after_ms  after which trying again makes sense; 0 when it does not
    """

    def __init__(
        self, code: Code, reason: str, path: str = "", index: int | None = None, *, retry_after_ms: int = 0
    ) -> None:
        super().__init__(code, reason, path)
        self.code = code
        self.reason = reason
        self.path = path
        self.index = index
        self.retry_after_ms = retry_after_ms

    def at(self, index: int) -> Refused:
        """The same, blamed on one command of a group."""
        return Refused(self.code, self.reason, self.path, index, retry_after_ms=self.retry_after_ms)
