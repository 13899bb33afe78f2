"""Review: what waits for whom, and votes."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import PolicyDocument, ReviewRule, Role
from cbmdhi.command.v1.state_pb2 import Review
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import cid
from tests.unit.identity.authority import Wallet
from tests.unit.identity.member import LAKESIDE, MERCY, PENDING, SUSPENDED, Member, refused, vote


@pytest.fixture
def member() -> Member:
    return Member()


async def pending(member: Member, caller: Wallet | None = None) -> list[identity_pb2.PendingReview]:
    caller = caller or member.administrator()
    request = identity_pb2.ListPendingReviewsRequest()
    return list((await member.registration.ListPendingReviews(request, member.by(caller))).reviews)


async def test_what_waits_for_this_member_comes_oldest_first_with_its_evidence(member: Member) -> None:
    wallets = [Wallet() for _ in range(3)]
    for age, wallet in zip((300, 100, 200), wallets, strict=True):
        evidence = wallet.address.encode()
        name = cid.raw(evidence)
        member.storage.blobs[name] = evidence
        member.ledger.put(
            wallet, Role.ROLE_PATIENT, PENDING, LAKESIDE, registered_at_ms=age, evidence_cid=name
        )
    reviews = await pending(member)
    expected = [wallets[1].address, wallets[2].address, wallets[0].address]
    assert [one.identity.address for one in reviews] == expected
    assert [one.sealed_evidence.decode() for one in reviews] == expected


async def test_what_this_member_voted_on_or_may_not_vote_on_does_not_wait_for_it(member: Member) -> None:
    member.ledger.policy = PolicyDocument(
        review_rules=[
            ReviewRule(role=Role.ROLE_PATIENT, quorum=2),
            ReviewRule(role=Role.ROLE_CLINICIAN, quorum=1, home_only=True),
        ]
    )
    voted, theirs, ours, at_lakeside_voted = (Wallet() for _ in range(4))
    member.ledger.put(voted, Role.ROLE_PATIENT, PENDING, reviews=[Review(msp=MERCY)])
    member.ledger.put(theirs, Role.ROLE_CLINICIAN, PENDING, LAKESIDE)
    member.ledger.put(ours, Role.ROLE_CLINICIAN, PENDING)
    member.ledger.put(at_lakeside_voted, Role.ROLE_PATIENT, PENDING, reviews=[Review(msp=LAKESIDE)])
    member.ledger.put(Wallet(), Role.ROLE_PATIENT)
    waiting = {one.identity.address for one in await pending(member)}
    assert waiting == {ours.address, at_lakeside_voted.address}


async def test_evidence_that_cannot_be_had_hides_no_other_registration(member: Member) -> None:
    lost, fine = Wallet(), Wallet()
    member.storage.blobs[cid.raw(b"fine")] = b"fine"
    member.ledger.put(lost, Role.ROLE_PATIENT, PENDING, evidence_cid=cid.raw(b"lost"), registered_at_ms=1)
    member.ledger.put(fine, Role.ROLE_PATIENT, PENDING, evidence_cid=cid.raw(b"fine"), registered_at_ms=2)
    assert [one.sealed_evidence for one in await pending(member)] == [b"", b"fine"]


async def test_more_evidence_than_a_message_holds_is_left_for_the_next_time(member: Member) -> None:
    for age in range(16):
        blob = bytes([age]) * 1024 * 1024
        member.storage.blobs[cid.raw(blob)] = blob
        member.ledger.put(
            Wallet(), Role.ROLE_PATIENT, PENDING, evidence_cid=cid.raw(blob), registered_at_ms=age
        )
    reviews = await pending(member)
    assert [one.identity.registered_at_ms for one in reviews] == list(range(11))


async def test_pending_reviews_are_for_an_active_administrator_of_this_member(member: Member) -> None:
    for caller in (member.administrator(home=LAKESIDE), member.administrator(SUSPENDED), Wallet()):
        error = await refused(pending(member, caller))
        assert error.code == code_pb2.CODE_FORBIDDEN


async def test_a_vote_goes_to_the_channel_and_the_identity_comes_back(member: Member) -> None:
    reviewer, patient = member.administrator(), Wallet()
    member.ledger.put(patient, Role.ROLE_PATIENT, PENDING)
    request = vote(reviewer, patient)
    answer = await member.registration.Review(request, member.by(reviewer))
    assert answer.receipt.code == code_pb2.CODE_OK
    assert answer.identity.address == patient.address
    assert member.ledger.submitted == [(request.command, [])]


async def test_a_vote_is_sent_by_its_signer(member: Member) -> None:
    reviewer, other = member.administrator(), member.administrator()
    error = await refused(member.registration.Review(vote(reviewer, Wallet()), member.by(other)))
    assert error.code == code_pb2.CODE_FORBIDDEN
    assert not member.ledger.submitted


async def test_a_vote_that_was_cast_keeps_its_receipt_when_the_ledger_goes_away_then(member: Member) -> None:
    reviewer, patient = member.administrator(), Wallet()
    member.ledger.away_after_submit = True
    answer = await member.registration.Review(vote(reviewer, patient), member.by(reviewer))
    assert answer.receipt.tx_id
    assert not answer.HasField("identity")
