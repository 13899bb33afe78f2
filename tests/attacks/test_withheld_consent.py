"""Who carries what a patient signed keeps it, and brings it in when it suits: after the patient took it back.

The carrier has what a gateway and a ledger service have: each change passes through its hands, it may submit
to the channel through its own ledger service or at the peers themselves, and wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

import fabric_gateway as fabric
from cbmdhi.client import Client
from cbmdhi.client.commands import submit, submit_group
from cbmdhi.client.consents import consent, provision
from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import UnknownOutcome, name_of
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol.state_keys import EPOCH_KEYS
from cbmdhi.waiting import until
from ops.devnet import Network
from services.ledger.channel.epochs import EPOCH_SECONDS
from tests.support.fabric_caller import CHAINCODE, ledger_of_mercy
from tests.support.mesh import People, observation
from tests.support.rogue import RogueGateway, Serving, access, delegated, opened, refusal

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Story:
    """A patient with a record, a clinician who would read it, and who carries what they sign."""

    network: Network
    people: People
    carrier: RogueGateway
    patient: Client
    record: NewRecord

    @property
    def reader(self) -> Client:
        return self.people.lakeside_clinician

    async def permit(self, consent_id: str = "") -> str:
        """The patient lets the reader read."""
        line = provision(grantee=self.reader.wallet.address)
        return (await self.patient.consents.grant(line, consent_id=consent_id))[0]

    async def deny(self, consent_id: str) -> None:
        """The same consent, the other way round."""
        await self.patient.consents.grant(provision(deny=True), consent_id=consent_id)

    async def signed_permit(self, consent_id: str = "", lifetime_seconds: int = 300) -> pb.SignedCommand:
        """A permit that the patient signs now, for the consents as they are now."""
        line = provision(grantee=self.reader.wallet.address)
        body = consent(
            self.patient.wallet.address,
            line,
            consent_id=consent_id,
            follows=await self.patient.consents.latest(),
        )
        return self.carrier.sign(self.patient.wallet, body, lifetime_seconds)

    async def signed_revoke(self, consent_id: str) -> pb.SignedCommand:
        body = pb.RevokeConsent(
            consent_id=consent_id,
            patient=self.patient.wallet.address,
            follows=await self.patient.consents.latest(),
        )
        return self.carrier.sign(self.patient.wallet, body)

    async def reads(self) -> str:
        """What becomes of a reading by the reader."""
        [receipt] = await self.carrier.carry(self.carrier.sign(self.reader.wallet, access(self.record)))
        return name_of(receipt.code)

    async def in_force(self) -> list[tuple[str, bool]]:
        """Each consent, and whether it denies."""
        document = await self.patient.consents.list()
        return [(one.consent_id, one.provisions[0].effect == pb.EFFECT_DENY) for one in document.consents]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def owner(people: People) -> AsyncIterator[Client]:
    """Whose consents they are."""
    async with await people.new_patient() as patient:
        yield patient


@pytest_asyncio.fixture(loop_scope="session")
async def story(network: Network, people: People, rogue: RogueGateway, owner: Client) -> Story:
    """It begins with a record, and no consent in force."""
    for given in (await owner.consents.list()).consents:
        await owner.consents.revoke(given.consent_id)
    record = observation(owner)
    await people.engine.records.put(record)
    return Story(network, people, rogue, owner, record)


Way = Callable[[Story, pb.SignedCommand], Awaitable[tuple[str, str]]]


async def by_the_ledger_service(story: Story, held: pb.SignedCommand) -> tuple[str, str]:
    [receipt] = await story.carrier.carry(held)
    return name_of(receipt.code), receipt.path


async def at_the_peers(story: Story, held: pb.SignedCommand) -> tuple[str, str]:
    async with at_peer(story) as contract:
        result = await contract.submit("process", *batch(held))
    [group] = state_pb2.BatchResult.FromString(result).groups
    return name_of(group.verdicts[0].code), group.verdicts[0].path


@asynccontextmanager
async def at_peer(story: Story) -> AsyncIterator[fabric.Contract]:
    """The chaincode, with the key of mercy's ledger service."""
    async with ledger_of_mercy(story.network).at_peer("mercy") as channel:
        yield channel.contract(CHAINCODE)


def batch(held: pb.SignedCommand) -> tuple[bytes]:
    item = state_pb2.BatchItem(group=pb.CommandGroup(commands=[held]))
    return (state_pb2.Batch(items=[item]).SerializeToString(),)


WAYS = pytest.mark.parametrize("way", [by_the_ledger_service, at_the_peers], ids=lambda way: way.__name__)


@WAYS
async def test_a_permit_that_was_held_back_is_good_until_the_patient_says_something_else(
    story: Story, way: Way
) -> None:
    """That the attempts below are sound: with nothing newer each would succeed."""
    held = await story.signed_permit()
    assert await story.reads() == "FORBIDDEN"
    assert await way(story, held) == ("OK", "")
    assert await story.reads() == "OK"


@WAYS
async def test_a_permit_that_was_held_back_does_not_replace_a_newer_deny(story: Story, way: Way) -> None:
    consent_id = await story.permit()
    held = await story.signed_permit(consent_id)
    anew = await story.signed_permit()
    await story.deny(consent_id)
    for one in (held, anew):
        assert await way(story, one) == ("CONFLICT", "body.consent.follows")
    assert await story.in_force() == [(consent_id, True)]
    assert await story.reads() == "FORBIDDEN"


@WAYS
async def test_a_permit_that_was_held_back_does_not_come_back_after_the_revoke(
    story: Story, way: Way
) -> None:
    consent_id = await story.permit()
    held = await story.signed_permit(consent_id)
    assert await story.reads() == "OK"
    await story.patient.consents.revoke(consent_id)
    assert await way(story, held) == ("CONFLICT", "body.consent.follows")
    # Nor the very first one, which was done once.
    assert await story.in_force() == []
    assert await story.reads() == "FORBIDDEN"


@WAYS
async def test_a_revoke_that_was_held_back_ends_nothing_newer(story: Story, way: Way) -> None:
    consent_id = await story.permit()
    held = await story.signed_revoke(consent_id)
    await story.deny(consent_id)
    assert await way(story, held) == ("CONFLICT", "body.revoke_consent.follows")
    assert await story.in_force() == [(consent_id, True)]


async def test_a_revoke_that_a_gateway_holds_back_is_unknown_and_another_members_gateway_carries_it(
    story: Story,
) -> None:
    consent_id = await story.permit()
    revoke = await story.signed_revoke(consent_id)

    async def hold_back(_: gateway_pb2.SubmitRequest) -> gateway_pb2.SubmitResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        Serving(story.carrier, submit=hold_back) as serving,
        Client(serving.serves(story.patient.wallet), deadline_seconds=2.0) as patient,
        Client(story.patient.wallet, "lakeside") as elsewhere,
    ):
        group = pb.CommandGroup(commands=[revoke])
        error = await refusal(submit_group(patient.connection, group))
        assert isinstance(error, UnknownOutcome)
        # Meanwhile the carrier reads on: what is not on the channel is not known to it.
        assert await story.reads() == "OK"
        [again] = error.again
        assert isinstance(again, gateway_pb2.SubmitRequest)
        [entry] = await submit_group(elsewhere.connection, again.group)
        assert entry.receipt.outcome == code_pb2.OUTCOME_COMMITTED
    assert await story.reads() == "FORBIDDEN"


async def test_a_decision_that_was_held_back_opens_nothing_after_the_revoke(story: Story) -> None:
    consent_id = await story.permit()
    signed = [story.carrier.sign(story.reader.wallet, access(story.record)) for _ in range(3)]
    *decided, used = await story.carrier.carry(*signed)
    assert (await opened(story.carrier, used)).blocks
    await story.patient.consents.revoke(consent_id)
    for one in decided:
        error = await refusal(opened(story.carrier, one))
        assert error.code_name == "FORBIDDEN", error


async def test_a_reading_that_was_signed_before_the_revoke_is_decided_by_what_is_in_force_when_it_comes(
    story: Story,
) -> None:
    consent_id = await story.permit()
    held = story.carrier.sign(story.reader.wallet, access(story.record))
    await story.patient.consents.revoke(consent_id)
    [receipt] = await story.carrier.carry(held)
    assert receipt.code == code_pb2.CODE_FORBIDDEN


async def test_what_was_endorsed_before_the_deny_is_not_committed_after_it(story: Story) -> None:
    """The carrier keeps not the command but the members' endorsements of it."""
    consent_id = await story.permit()
    held = await story.signed_permit(consent_id)
    async with at_peer(story) as contract:
        endorsed = await contract.propose("process", *batch(held)).endorse()
        await story.deny(consent_id)
        status = await (await endorsed.submit()).status()
    assert (status.successful, status.code) == (False, fabric.MVCC_READ_CONFLICT)
    assert await story.in_force() == [(consent_id, True)]
    assert await story.reads() == "FORBIDDEN"


@WAYS
async def test_a_permit_that_was_held_back_beyond_its_time_is_worth_nothing(story: Story, way: Way) -> None:
    held = await story.signed_permit(lifetime_seconds=1)
    ends_at = time.time() + 1

    async def is_over() -> bool:
        return time.time() > ends_at

    await until(is_over, "the command has expired")
    assert (await way(story, held))[0] == "EXPIRED"
    assert await story.in_force() == []


@pytest.mark.timeout(300)
async def test_what_was_endorsed_is_committed_within_two_minutes_or_never(story: Story, long: bool) -> None:
    """With nothing newer, and the command still good: what ends it is the channel's time."""
    if not long:
        pytest.skip("takes minutes")
    held = await story.signed_permit(lifetime_seconds=600)
    async with at_peer(story) as contract:
        endorsed = await contract.propose("process", *batch(held)).endorse()
        over_at = (time.time() // EPOCH_SECONDS + 2) * EPOCH_SECONDS

        async def is_over() -> bool:
            return await told_epoch(contract) * EPOCH_SECONDS >= over_at

        await until(is_over, "the epoch after the next has begun", deadline_seconds=200, every_seconds=1)
        status = await (await endorsed.submit()).status()
    assert (status.successful, status.code) == (False, fabric.MVCC_READ_CONFLICT)
    assert await story.in_force() == []


async def told_epoch(contract: fabric.Contract) -> int:
    """The newest epoch that the channel knows."""
    keys = state_pb2.GetKeys(keys=EPOCH_KEYS)
    query = state_pb2.Query(get_keys=keys).SerializeToString()
    answer = await contract.evaluate("query", query, organisations=("MercyMSP",))
    values = state_pb2.QueryResult.FromString(answer).values
    return max(state_pb2.Epoch.FromString(value).number for value in values)


# Delegations


async def test_what_is_kept_of_a_delegation_is_worth_nothing_once_its_person_ended_it(story: Story) -> None:
    """The delegation itself, a reading signed within it, and a decision."""
    await story.permit()
    reader = story.reader
    given = delegated(reader.wallet, story.carrier.device().address)
    device = story.carrier.device(given)
    before, held, decided = (story.carrier.sign(device, access(story.record)) for _ in range(3))
    [receipt, waits] = await story.carrier.carry(before, decided)
    assert receipt.code == code_pb2.CODE_OK, receipt
    assert (await opened(story.carrier, receipt)).blocks

    # The logout that the gateway holds back is carried by another member's.
    delegation = pb.Delegation.FromString(given.delegation)
    async with Client(reader.wallet, "lakeside") as elsewhere:
        await submit(
            elsewhere.connection,
            pb.RevokeDelegation(
                delegation_id=delegation.delegation_id,
                delegator=delegation.delegator,
                expires_at_ms=delegation.expires_at_ms,
            ),
        )
    for late in (held, story.carrier.sign(device, access(story.record))):
        [receipt] = await story.carrier.carry(late)
        assert receipt.code == code_pb2.CODE_FORBIDDEN, receipt
    assert (await refusal(opened(story.carrier, waits))).code_name == "FORBIDDEN"
    # The reader in person reads on.
    assert await story.reads() == "OK"


async def test_a_delegation_that_was_held_back_beyond_its_time_is_worth_nothing(story: Story) -> None:
    await story.permit()
    given = delegated(story.reader.wallet, story.carrier.device().address, seconds=2)
    device, ends_at = story.carrier.device(given), time.time() + 2
    [receipt] = await story.carrier.carry(story.carrier.sign(device, access(story.record)))
    assert receipt.code == code_pb2.CODE_OK, receipt

    async def is_over() -> bool:
        return time.time() > ends_at

    await until(is_over, "the delegation has ended")
    [receipt] = await story.carrier.carry(story.carrier.sign(device, access(story.record)))
    assert receipt.code in (code_pb2.CODE_EXPIRED, code_pb2.CODE_FORBIDDEN), receipt
