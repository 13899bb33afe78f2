"""The mesh's one error: what a service answers, and what the SDK raises of it."""

from __future__ import annotations

from typing import Generic, TypeVar

from cbmdhi.command.v1 import code_pb2

E = TypeVar("E", bound="MeshError")


class _Of:
    """A constructor for one code: `MeshError.invalid("no date", "body.date")`."""

    def __init__(self, code: int) -> None:
        self._code = code

    def __get__(self, _: MeshError | None, kind: type[E]) -> _OfKind[E]:
        return _OfKind(kind, self._code)


class _OfKind(Generic[E]):
    def __init__(self, kind: type[E], code: int) -> None:
        self._kind = kind
        self._code = code

    def __call__(
        self,
        reason: str,
        path: str = "",
        retry_after_ms: int = 0,
        outcome: int = code_pb2.OUTCOME_UNSPECIFIED,
    ) -> E:
        return self._kind(self._code, reason, path, retry_after_ms, outcome)


class MeshError(Exception):
    """What went wrong. Each code of an error has a constructor of its name.

    code            a value of `cbmdhi.command.v1.Code`
    reason          a sentence that a person can act on: no health data, no personal identifier
    path            where in the request, such as `body.put_record.patient`
    retry_after_ms  after which sending again makes sense; 0 when it does not
    outcome         what is certain about the effect of a call that changes state, whatever the code: a
                    value of `cbmdhi.command.v1.Outcome`. Unspecified is to be taken for unknown
    """

    bad_signature = _Of(code_pb2.CODE_BAD_SIGNATURE)
    expired = _Of(code_pb2.CODE_EXPIRED)
    unknown_signer = _Of(code_pb2.CODE_UNKNOWN_SIGNER)
    inactive_signer = _Of(code_pb2.CODE_INACTIVE_SIGNER)
    forbidden = _Of(code_pb2.CODE_FORBIDDEN)
    conflict = _Of(code_pb2.CODE_CONFLICT)
    invalid = _Of(code_pb2.CODE_INVALID)
    wrong_channel = _Of(code_pb2.CODE_WRONG_CHANNEL)
    not_found = _Of(code_pb2.CODE_NOT_FOUND)
    too_large = _Of(code_pb2.CODE_TOO_LARGE)
    unauthenticated = _Of(code_pb2.CODE_UNAUTHENTICATED)
    resource_exhausted = _Of(code_pb2.CODE_RESOURCE_EXHAUSTED)
    unavailable = _Of(code_pb2.CODE_UNAVAILABLE)
    deadline_exceeded = _Of(code_pb2.CODE_DEADLINE_EXCEEDED)
    unknown_outcome = _Of(code_pb2.CODE_UNKNOWN_OUTCOME)
    endorsement_failed = _Of(code_pb2.CODE_ENDORSEMENT_FAILED)
    integrity = _Of(code_pb2.CODE_INTEGRITY)
    internal = _Of(code_pb2.CODE_INTERNAL)

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
