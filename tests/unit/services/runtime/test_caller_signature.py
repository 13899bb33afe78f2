"""Who asks is who signed the call: this one, to this member, on this channel, now, once where it counts."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cbmdhi.command.v1 import state_pb2
from cbmdhi.command.v1.call_pb2 import Call, SignedCall
from cbmdhi.notify.v1 import notify_pb2
from cbmdhi.protocol import call as calls
from cbmdhi.protocol import command, signature
from services.runtime.caller_signature import CallerSignature
from services.runtime.errors import MeshError, code_name
from tests.support.channel import CHANNEL, ELSEWHERE, REUSED_NAME
from tests.support.fakes.asking_gateway import Gateway

MERCY = "MercyMSP"
NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000


class Member:
    """A service that is asked, its ledger and its gateway."""

    def __init__(self) -> None:
        self.person = command.KeySigner(signature.new_private_key())
        self.document = state_pb2.IdentityDocument(
            address=self.person.address,
            signing_public_key=signature.spki(self.person.private_key.public_key()),
            status=state_pb2.IDENTITY_STATUS_ACTIVE,
        )
        self.documents = {self.person.address: self.document}
        self.now_ms = NOW_MS
        self.asking = CallerSignature(self, channel=CHANNEL, msp_id=MERCY, clock=lambda: self.now_ms)
        self.gateway = Gateway(MERCY)

    async def identity(self, address: str) -> state_pb2.IdentityDocument | None:
        return self.documents.get(address)

    def signed(self, by: command.KeySigner | None = None, **changes: Any) -> notify_pb2.AcknowledgeRequest:
        request = notify_pb2.AcknowledgeRequest(notification_ids=[7])
        how: dict[str, Any] = {"channel": CHANNEL, "msp": MERCY, "now_ms": NOW_MS} | changes
        return calls.sign(request, by or self.person, **how)

    async def asks(self, request: Any, caller: str = "", *, once: bool = False) -> Any:
        said = self.gateway.says(caller or self.person.address)
        return await self.asking.of(request, said, once=once)

    async def refused(self, request: Any, caller: str = "", *, once: bool = False) -> str:
        with pytest.raises(MeshError) as caught:
            await self.asks(request, caller, once=once)
        return code_name(caught.value.code)


@pytest.fixture
def member() -> Member:
    return Member()


async def test_what_a_person_signed_is_what_is_meant(member: Member) -> None:
    request = member.signed()
    request.notification_ids.append(8)
    asked = await member.asks(request)
    assert (asked.by.address, list(asked.request.notification_ids)) == (member.person.address, [7])
    assert member.asking.check_in_time(asked) == calls.MAX_LIFETIME_SECONDS


async def test_nobody_asks_on_the_gateways_word(member: Member) -> None:
    assert await member.refused(notify_pb2.AcknowledgeRequest(notification_ids=[7])) == "UNAUTHENTICATED"
    thief = command.KeySigner(signature.new_private_key())
    assert await member.refused(member.signed(thief)) == "FORBIDDEN"
    assert await member.refused(member.signed(thief), thief.address) == "UNKNOWN_SIGNER"
    forged = member.signed(thief)
    forged.call.signer = member.person.address
    assert await member.refused(forged) == "BAD_SIGNATURE"
    # A ledger service that gives another key under the address makes nobody else of it.
    member.document.signing_public_key = signature.spki(thief.private_key.public_key())
    assert await member.refused(forged) == "BAD_SIGNATURE"


async def test_a_signature_for_something_else_is_worth_nothing_as_a_call(member: Member) -> None:
    request = member.signed()
    for label in (signature.COMMAND, signature.LOGIN, signature.DELEGATION):
        request.call.signature = member.person.sign(label, request.call.call)
        assert await member.refused(request) == "BAD_SIGNATURE"


async def test_a_call_is_for_one_method_one_member_and_one_channel(member: Member) -> None:
    signed = member.signed().call
    for other in (notify_pb2.ListRequest(call=signed), notify_pb2.StreamRequest(call=signed)):
        assert await member.refused(other) == "INVALID"
    assert await member.refused(member.signed(msp="LakesideMSP")) == "FORBIDDEN"
    for channel in (REUSED_NAME, ELSEWHERE):
        assert await member.refused(member.signed(channel=channel)) == "WRONG_CHANNEL"


async def test_bytes_that_are_no_call_are_refused(member: Member) -> None:
    junk = SignedCall(call=b"\xff", signature=b"x", signer=member.person.address)
    assert await member.refused(notify_pb2.AcknowledgeRequest(call=junk)) == "INVALID"
    request = member.signed()
    changed = Call.FromString(request.call.call)
    changed.call_id = "1"
    request.call.call = changed.SerializeToString()
    assert await member.refused(request) == "INVALID"


async def test_a_call_holds_for_five_minutes_and_not_before_its_time(member: Member) -> None:
    for now_ms in (NOW_MS - MINUTE_MS, NOW_MS + 5 * MINUTE_MS - 1):
        member.now_ms = now_ms
        assert await member.asks(member.signed())
    for now_ms in (NOW_MS - MINUTE_MS - 1, NOW_MS + 5 * MINUTE_MS):
        member.now_ms = now_ms
        assert await member.refused(member.signed()) == "EXPIRED"
    member.now_ms = NOW_MS
    assert await member.refused(member.signed(lifetime_seconds=301)) == "EXPIRED"
    assert await member.refused(member.signed(lifetime_seconds=-1)) == "EXPIRED"


def test_a_call_is_good_from_now_on_for_five_minutes(member: Member) -> None:
    before = time.time_ns() // 1_000_000
    _, call, _ = calls.parse(member.signed(now_ms=None))

    assert before <= call.issued_at_ms <= time.time_ns() // 1_000_000
    assert call.expires_at_ms == call.issued_at_ms + 5 * MINUTE_MS


async def test_who_is_not_active_is_refused(member: Member) -> None:
    for status in (state_pb2.IDENTITY_STATUS_SUSPENDED, state_pb2.IDENTITY_STATUS_PENDING):
        member.document.status = status
        assert await member.refused(member.signed()) == "INACTIVE_SIGNER"


async def test_what_changes_state_is_done_once_and_what_was_refused_can_be_sent_again(member: Member) -> None:
    request = member.signed()
    member.document.status = state_pb2.IDENTITY_STATUS_PENDING
    assert await member.refused(request, once=True) == "INACTIVE_SIGNER"
    member.document.status = state_pb2.IDENTITY_STATUS_ACTIVE
    assert await member.asks(request, once=True)
    assert await member.refused(request, once=True) == "CONFLICT"
    assert await member.asks(member.signed(), once=True)


async def test_a_call_is_remembered_for_as_long_as_it_could_come_again(member: Member) -> None:
    request = member.signed(now_ms=NOW_MS + MINUTE_MS)
    assert await member.asks(request, once=True)
    member.now_ms = NOW_MS + 6 * MINUTE_MS - 1
    assert await member.refused(request, once=True) == "CONFLICT"
    member.now_ms += 1
    assert await member.refused(request, once=True) == "EXPIRED"
