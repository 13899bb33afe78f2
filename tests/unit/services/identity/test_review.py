"""Review: what waits for whom, and votes."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2, command_pb2
from cbmdhi.command.v1.command_pb2 import PolicyDocument, ReviewRule, Role
from cbmdhi.command.v1.state_pb2 import Review
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import cid, command
from services.runtime.errors import code_name
from tests.support.channel import ELSEWHERE
from tests.support.fakes.fabric_ca import Wallet
from tests.support.fakes.identity_member import LAKESIDE, MERCY, PENDING, SUSPENDED, Member, refused, vote


@pytest.fixture
def member() -> Member:
    return Member()


async def page(
    member: Member, caller: Wallet | None = None, size: int = 0, token: str = ""
) -> identity_pb2.ListPendingReviewsResponse:
    caller = caller or member.administrator()
    request = identity_pb2.ListPendingReviewsRequest(page_size=size, page_token=token)
    return await member.registration.ListPendingReviews(member.signed(request, caller), member.by(caller))


async def pending(member: Member, caller: Wallet | None = None) -> list[identity_pb2.PendingReview]:
    return list((await page(member, caller)).reviews)


async def evidence(member: Member, address: str, caller: Wallet | None = None) -> bytes:
    caller = caller or member.administrator()
    request = identity_pb2.GetEvidenceRequest(address=address)
    answer = await member.registration.GetEvidence(member.signed(request, caller), member.by(caller))
    return answer.sealed_evidence


def waiting(member: Member, age: int, blob: bytes = b"") -> Wallet:
    """A patient's registration, with evidence if there is any."""
    wallet, name = Wallet(), cid.raw(blob) if blob else ""
    if blob:
        member.storage.blobs[name] = blob
    member.ledger.put(wallet, Role.ROLE_PATIENT, PENDING, LAKESIDE, registered_at_ms=age, evidence_cid=name)
    return wallet


async def test_what_waits_for_this_member_comes_oldest_first_and_each_ones_evidence_by_itself(
    member: Member,
) -> None:
    wallets = [waiting(member, age, f"evidence of {age}".encode()) for age in (300, 100, 200)]
    expected = [wallets[1].address, wallets[2].address, wallets[0].address]
    assert [one.identity.address for one in await pending(member)] == expected
    assert [await evidence(member, address) for address in expected] == [
        b"evidence of 100",
        b"evidence of 200",
        b"evidence of 300",
    ]


async def test_no_registration_hides_a_later_one_however_many_there_are_and_however_large(
    member: Member,
) -> None:
    member.ledger.page = 7
    reviewer = member.administrator()
    everyone = {waiting(member, age // 3, bytes(1024 * 1024)).address for age in range(60)}
    seen: list[str] = []
    token = ""
    while True:
        answer = await page(member, reviewer, 13, token)
        seen += [one.identity.address for one in answer.reviews]
        assert len(answer.reviews) <= 13
        token = answer.next_page_token
        if not token:
            break
    assert (len(seen), set(seen)) == (60, everyone)
    ages = [member.ledger.documents[address].registered_at_ms for address in seen]
    assert ages == sorted(ages)


async def test_what_is_decided_between_two_pages_moves_no_other_out_of_sight(member: Member) -> None:
    reviewer = member.administrator()
    wallets = [waiting(member, age) for age in range(6)]
    first = await page(member, reviewer, 3)
    member.ledger.documents[wallets[0].address].status = SUSPENDED
    second = await page(member, reviewer, 3, first.next_page_token)
    assert [one.identity.address for one in second.reviews] == [one.address for one in wallets[3:]]
    assert not second.next_page_token


async def test_a_token_of_another_list_is_told_from_ours(member: Member) -> None:
    for token in ("x", "1.x", "-1.cb1", f"{'9' * 40}.{Wallet().address}"):
        assert (await refused(page(member, token=token))).path == "page_token"


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


async def test_evidence_that_is_not_there_is_not_found_and_says_so(member: Member) -> None:
    lost = Wallet()
    member.ledger.put(lost, Role.ROLE_PATIENT, PENDING, evidence_cid=cid.raw(b"lost"))
    for address in (lost.address, waiting(member, 1).address, Wallet().address):
        assert (await refused(evidence(member, address))).code == code_pb2.CODE_NOT_FOUND
    assert (await refused(evidence(member, "x"))).code == code_pb2.CODE_INVALID


async def test_pending_reviews_are_for_an_active_administrator_of_this_member(member: Member) -> None:
    clinician = Wallet()
    member.ledger.put(clinician, Role.ROLE_CLINICIAN)
    for caller, code in (
        (clinician, code_pb2.CODE_FORBIDDEN),
        (member.administrator(home=LAKESIDE), code_pb2.CODE_FORBIDDEN),
        (member.administrator(SUSPENDED), code_pb2.CODE_INACTIVE_SIGNER),
        (Wallet(), code_pb2.CODE_UNKNOWN_SIGNER),
    ):
        for call in (pending(member, caller), evidence(member, Wallet().address, caller)):
            assert (await refused(call)).code == code


async def test_what_administrators_are_shown_is_not_shown_to_their_gateway(member: Member) -> None:
    administrator, thief = member.administrator(), Wallet()
    patient = waiting(member, 1, b"sealed evidence")
    wanted = identity_pb2.GetEvidenceRequest(address=patient.address)
    page = identity_pb2.ListPendingReviewsRequest()
    forged = member.signed(wanted, thief)
    forged.call.signer = administrator.address
    for attempt, code in (
        (member.registration.GetEvidence(wanted, member.by(administrator)), "UNAUTHENTICATED"),
        (member.registration.ListPendingReviews(page, member.by(administrator)), "UNAUTHENTICATED"),
        (member.registration.GetEvidence(forged, member.by(administrator)), "BAD_SIGNATURE"),
    ):
        assert code_name((await refused(attempt)).code) == code
    # What an administrator asked about one patient tells nothing of another.
    asked = member.signed(identity_pb2.GetEvidenceRequest(address=waiting(member, 2).address), administrator)
    asked.address = patient.address
    error = await refused(member.registration.GetEvidence(asked, member.by(administrator)))
    assert error.code == code_pb2.CODE_NOT_FOUND


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


async def test_an_administrator_whose_certificate_was_revoked_votes_and_invites_and_sees_nothing(
    member: Member,
) -> None:
    reviewer, patient = member.administrator(), waiting(member, 100, b"evidence")
    certificate = member.ca.root.issue(reviewer.address, reviewer.key.public_key(), "administrator")
    member.revoke(MERCY, member.ca.root, certificate)
    invitation = identity_pb2.InviteRequest(address=Wallet().address, role=Role.ROLE_CLINICIAN)
    for attempt in (
        member.registration.Review(vote(reviewer, patient), member.by(reviewer)),
        member.enrolment.Invite(member.signed(invitation, reviewer), member.by(reviewer)),
        page(member, reviewer),
        evidence(member, patient.address, reviewer),
    ):
        assert (await refused(attempt)).code == code_pb2.CODE_INACTIVE_SIGNER
    assert not member.ledger.submitted


async def test_a_vote_that_holds_what_nobody_reads_is_carried_nowhere(member: Member) -> None:
    reviewer = member.administrator()
    name = b"\xba\x3e\x10Erika Mustermann"  # field 999
    beside, within = (vote(reviewer, Wallet()).command for _ in range(2))
    beside.MergeFromString(name)
    within = command.KeySigner(reviewer.key).sign_command(within.command + name)
    for signed in (beside, within):
        request = identity_pb2.ReviewRequest(command=signed)
        error = await refused(member.registration.Review(request, member.by(reviewer)))
        assert (error.code, error.path) == (code_pb2.CODE_INVALID, "command")
    assert not member.ledger.submitted


async def test_a_vote_for_a_reason_in_ones_own_words_or_for_another_channel_is_carried_nowhere(
    member: Member,
) -> None:
    reviewer, patient = member.administrator(), Wallet()
    own_words = await refused(
        member.registration.Review(
            vote(reviewer, patient, reason_code="is HIV positive"), member.by(reviewer)
        )
    )
    assert (own_words.code, own_words.path) == (code_pb2.CODE_INVALID, "body.review_registration.reason_code")
    elsewhere = await refused(
        member.registration.Review(vote(reviewer, patient, channel=ELSEWHERE), member.by(reviewer))
    )
    assert (elsewhere.code, elsewhere.path) == (code_pb2.CODE_WRONG_CHANNEL, "channel")
    assert not member.ledger.submitted


@pytest.mark.parametrize("place", ["command_id", "group", "delegation"])
async def test_a_vote_with_a_name_around_its_body_is_carried_nowhere(member: Member, place: str) -> None:
    reviewer, patient = member.administrator(), Wallet()
    signed = vote(reviewer, patient).command
    header = command_pb2.Command.FromString(signed.command)
    if place == "command_id":
        header.command_id = "Erika Mustermann"
    if place == "group":
        header.group.group_id = "Erika Mustermann"
    signed = command.KeySigner(reviewer.key).sign_command(header.SerializeToString(deterministic=True))
    if place == "delegation":
        within = command_pb2.Delegation(delegation_id="Erika Mustermann").SerializeToString()
        signed.delegation.delegation = within
    request = identity_pb2.ReviewRequest(command=signed)
    error = await refused(member.registration.Review(request, member.by(reviewer)))
    assert (error.code, error.path) == (code_pb2.CODE_INVALID, place)
    assert not member.ledger.submitted


async def test_a_vote_that_its_signer_did_not_sign_is_carried_nowhere(member: Member) -> None:
    reviewer, patient = member.administrator(), Wallet()
    signed = vote(reviewer, patient).command.signature
    another = vote(Wallet(), patient).command.signature
    for forged in (b"", b"Erika Mustermann" * 10_000, signed + b"Erika Mustermann", another):
        request = vote(reviewer, patient)
        request.command.signature = forged
        error = await refused(member.registration.Review(request, member.by(reviewer)))
        assert error.code == code_pb2.CODE_BAD_SIGNATURE
    stranger = Wallet()
    error = await refused(member.registration.Review(vote(stranger, patient), member.by(stranger)))
    assert (error.code, error.path) == (code_pb2.CODE_UNKNOWN_SIGNER, "signer")
    assert not member.ledger.submitted


async def test_a_vote_that_was_cast_keeps_its_receipt_when_the_ledger_goes_away_then(member: Member) -> None:
    reviewer, patient = member.administrator(), Wallet()
    member.ledger.away_after_submit = True
    answer = await member.registration.Review(vote(reviewer, patient), member.by(reviewer))
    assert answer.receipt.tx_id
    assert not answer.HasField("identity")
