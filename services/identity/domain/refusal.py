"""Why the rules refuse something. The service's surface turns a refusal into the mesh's one error type."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """The part of the mesh's closed list of codes that these rules use."""

    INVALID = "INVALID"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    INACTIVE_SIGNER = "INACTIVE_SIGNER"
    WRONG_CHANNEL = "WRONG_CHANNEL"
    CONFLICT = "CONFLICT"
    TOO_LARGE = "TOO_LARGE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"


class Refused(Exception):
    """A rule says no.

    why             which code
    reason          a sentence that a person can act on: no personal data, no address
    path            where in the request
    retry_after_ms  after which trying again makes sense; 0 when it does not
    """

    def __init__(self, why: Why, reason: str, path: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(why, reason, path, retry_after_ms)
        self.why = why
        self.reason = reason
        self.path = path
        self.retry_after_ms = retry_after_ms
