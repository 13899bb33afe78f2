"""The mesh's one error: what a service answers, and what the SDK raises of it."""

from __future__ import annotations

from cbmdhi.command.v1 import code_pb2


class MeshError(Exception):
    """What went wrong.

    code            a value of `cbmdhi.command.v1.Code`
    reason          a sentence that a person can act on: no health data, no personal identifier
    path            where in the request, such as `body.put_record.patient`
    retry_after_ms  after which sending again makes sense; 0 when it does not
    outcome         what is certain about the effect of a call that changes state, whatever the code: a
                    value of `cbmdhi.command.v1.Outcome`. Unspecified is to be taken for unknown
    """

    def __init__(
        self,
        code: int,
        reason: str,
        path: str = "",
        retry_after_ms: int = 0,
        outcome: int = code_pb2.OUTCOME_UNSPECIFIED,
    ) -> None:
        super().__init__(code, reason, path, retry_after_ms, outcome)
        self.code = code
        self.reason = reason
        self.path = path
        self.retry_after_ms = retry_after_ms
        self.outcome = outcome

    def __str__(self) -> str:
        return f"{self.code_name}: {self.reason}" + (f" (at {self.path})" if self.path else "")

    @property
    def code_name(self) -> str:
        """The code without its prefix, such as `FORBIDDEN`."""
        return code_name(self.code)

    @property
    def nothing_done(self) -> bool:
        """True when it is certain that this sending had no effect and will have none."""
        return self.outcome == code_pb2.OUTCOME_NOT_DONE


def code_name(code: int) -> str:
    """`FORBIDDEN` for CODE_FORBIDDEN; `UNSPECIFIED` for a number that is not on the list."""
    names = code_pb2.Code.DESCRIPTOR.values_by_number
    return names[code].name.removeprefix("CODE_") if code in names else "UNSPECIFIED"


def of_detail(detail: code_pb2.ErrorDetail) -> MeshError:
    """The error that a service sent."""
    return MeshError(detail.code, detail.reason, detail.path, detail.retry_after_ms, detail.outcome)
