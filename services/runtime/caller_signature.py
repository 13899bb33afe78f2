"""Finds who asks by the person's signature over the call. The gateway that forwards it is not believed.

For calls that change state for a person, and for what only that person may see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from cbmdhi.command.v1.call_pb2 import Call, SignedCall
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import call as calls
from cbmdhi.protocol import ids, signature, standing
from cbmdhi.protocol.channel import Channel
from services.runtime.callers import Context, caller_of
from services.runtime.clock import now_ms
from services.runtime.errors import MeshError
from services.runtime.registered import People
from services.runtime.used_once import UsedOnce

M = TypeVar("M", bound=Message)

_AHEAD_MS = 60_000
_LIFETIME_MS = calls.MAX_LIFETIME_SECONDS * 1000
# Most remembered call ids, of one person and of all.
_MOST_OF_ONE = 1_000
_MOST = 100_000


@dataclass(frozen=True)
class Asked(Generic[M]):
    """A call whose signature holds.

    by             who asks, active on the channel
    request        the signed request
    expires_at_ms  when the signed call expires, Unix ms
    """

    by: IdentityDocument
    request: M
    expires_at_ms: int


class CallerSignature:
    """Checks calls to this service. Raises MeshError.

    msp_id  the own member: a call that was signed for another member is refused
    """

    def __init__(
        self, people: People, *, channel: Channel, msp_id: str, clock: Callable[[], int] = now_ms
    ) -> None:
        self._people = people
        self._channel = channel
        self._msp_id = msp_id
        self._clock = clock
        self._used = UsedOnce(_AHEAD_MS + _LIFETIME_MS, _MOST, _MOST_OF_ONE)

    async def of(self, request: M, context: Context, *, once: bool = False) -> Asked[M]:
        """The signer of the call and the signed request.

        once  refuse the same call a second time: for calls that change state
        """
        caller, carrying = caller_of(context), cast(Any, request)
        if not carrying.call.call:
            raise MeshError.unauthenticated("who asks signs the call; no gateway asks for anybody", "call")
        try:
            signed, call, meant = calls.parse(request)
        except calls.MalformedCall as error:
            raise MeshError.invalid(str(error), "call") from error
        if signed.signer != caller.address:
            raise MeshError.forbidden("the call is signed by somebody else than who sends it", "call")
        self._check_place(call)
        self._check_time(call)
        document = _checked(signed, await self._people.identity(signed.signer))
        if once:
            self._use(signed.signer, call.call_id)
        return Asked(document, meant, call.expires_at_ms)

    def check_in_time(self, asked: Asked[M]) -> float:
        """Seconds until the signed call expires, for streams. Raises MeshError once it has."""
        left = (asked.expires_at_ms - self._clock()) / 1000
        if left <= 0:
            raise MeshError.unauthenticated("the call that began this has expired: sign a new one", "call")
        return left

    def _use(self, whose: str, call_id: str) -> None:
        now = self._clock()
        if self._used.has(call_id, now, whose):
            raise MeshError.conflict("this very call was done before: sign a new one to do it again", "call")
        if wait := self._used.wait(now, whose):
            raise MeshError.resource_exhausted("too many such calls at this moment", retry_after_ms=int(wait))
        self._used.note(call_id, now, whose)

    def _check_place(self, call: Call) -> None:
        if (call.channel, call.genesis_sha256) != (self._channel.name, self._channel.genesis_sha256):
            raise MeshError.wrong_channel("it was signed for another channel", "call")
        if call.msp != self._msp_id:
            raise MeshError.forbidden("it was signed for another member's service", "call")
        if not ids.is_uuid7(call.call_id):
            raise MeshError.invalid("not a UUIDv7 in canonical text", "call.call_id")

    def _check_time(self, call: Call) -> None:
        now = self._clock()
        lifetime = call.expires_at_ms - call.issued_at_ms
        if call.issued_at_ms > now + _AHEAD_MS or now >= call.expires_at_ms or lifetime > _LIFETIME_MS:
            raise MeshError.expired(
                "the call is past, from the future, or for more than five minutes: look at the clock, "
                "and sign a new one",
                "call",
            )


def _checked(signed: SignedCall, document: IdentityDocument | None) -> IdentityDocument:
    if document is None:
        raise MeshError.unknown_signer("who asks is not registered", "call")
    try:
        if addresses.of_spki(document.signing_public_key) != signed.signer:
            raise signature.BadSignature("the key is another address's")
        calls.verify(signed, document.signing_public_key)
    except (signature.BadSignature, ValueError) as error:
        raise MeshError.bad_signature(
            "the call is not signed by the registered key of who asks", "call"
        ) from error
    if not standing.is_active(document):
        raise MeshError.inactive_signer(
            "this identity is not active (waiting for review, rejected or suspended): ask its hospital",
            "call",
        )
    return document
