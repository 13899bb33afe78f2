"""Why something was not taken, as the rules say it."""

from __future__ import annotations

from cbmdhi.command.v1.code_pb2 import Code


class Refused(Exception):
    """A code, a sentence that a person can act on, and where.

    path    such as `body.put_record.patient`, or `Observation.status` inside a resource
    index   which command of the group, when one is to blame
    """

    def __init__(self, code: Code, reason: str, path: str = "", index: int | None = None) -> None:
        super().__init__(code, reason, path)
        self.code = code
        self.reason = reason
        self.path = path
        self.index = index

    def at(self, index: int) -> Refused:
        """The same, blamed on one command of a group."""
        return Refused(self.code, self.reason, self.path, index)
