"""What a caller is told to be done or refused is what the members' peers hold, whatever the gateway says."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from cbmdhi.client import Client
from cbmdhi.client.commands import submit_group
from cbmdhi.client.connection import Connection
from cbmdhi.client.consents import Consents, provision
from cbmdhi.client.registration import Registration
from cbmdhi.client.trail import Trail
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry, ConsentDocument, IdentityDocument
from cbmdhi.errors import MeshError, NotCommitted, UnknownOutcome, Unproven
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Evidence, Receipt
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import audit_key
from cbmdhi.verify import verify_receipt, verify_receipts, was_never_done
from tests.support.channel import CHANNEL
from tests.support.fakes.evidence import Committed, Person
from tests.support.fakes.fabric_blocks import Network
from tests.unit.cbmdhi.client.test_reading import consortium_of

LET_IN = provision(msp="LakesideMSP")


@dataclass
class Wallet:
    """As much of a wallet as signing in person needs."""

    person: Person
    consortium: Any
    member: str = "MercyMSP"
    role: pb.Role = pb.ROLE_CLINICIAN
    hpke_public: bytes = bytes(32)
    delegation: pb.SignedDelegation | None = None

    @property
    def address(self) -> str:
        return self.person.address

    @property
    def spki(self) -> bytes:
        return signature.spki(self.person.signer.private_key.public_key())

    @property
    def certificate_pem(self) -> str:
        return self.consortium.members[self.member].ca_pem

    def sign_command(self, raw: bytes) -> pb.SignedCommand:
        return self.person.signer.sign_command(raw)


@dataclass
class ProvingGateway:
    """A gateway that carries what it gets to the channel, unless the test says otherwise.

    carries   whether what is sent gets to the channel at all
    decides   what the channel decides of a command
    says      what it answers, instead of what the channel has decided
    evidence  what it gives as proof, instead of what the peers sign; an exception is raised
    """

    carries: bool = True
    decides: Callable[[AuditEntry], None] = lambda entry: None
    says: Callable[[Receipt], None] = lambda receipt: None
    evidence: Callable[[Evidence], Evidence | MeshError] = lambda evidence: evidence
    committed: Committed = field(default_factory=Committed)
    sent: list[Any] = field(default_factory=list)

    @cached_property
    def authenticated(self) -> Any:
        """For the stubs; nothing is sent over it. It needs a loop, so it is made when it is used."""
        return grpc.aio.insecure_channel("127.0.0.1:1")

    def __post_init__(self) -> None:
        self.wallet = Wallet(self.committed.person("patient"), consortium_of(self.committed.network))

    @property
    def connection(self) -> Connection:
        return cast(Connection, self)

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, gateway_pb2.ListConsentsRequest):
            return gateway_pb2.ListConsentsResponse(consents=ConsentDocument())
        self.sent.append(request)
        if isinstance(request, identity_pb2.ReviewRequest):
            return identity_pb2.ReviewResponse(receipt=self._carry(request.command))
        told = [gateway_pb2.RecordReceipt(receipt=self._carry(one)) for one in request.group.commands]
        return gateway_pb2.SubmitResponse(receipts=told)

    async def enrolled(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, identity_pb2.RegisterRequest):
            self.sent.append(request)
            return identity_pb2.RegisterResponse(receipt=self._carry(request.command))
        if audit_key(request.command_id, request.signer) not in self.committed.values:
            given = self.evidence(Evidence())
        else:
            given = self.evidence(self.committed.evidence())
        if isinstance(given, MeshError):
            raise given
        return gateway_pb2.GetProofResponse(evidence=given)

    def _carry(self, signed: pb.SignedCommand) -> Receipt:
        entry = AuditEntry(code=code_pb2.CODE_OK)
        if self.carries:
            entry = self.committed.enter(signed)
            self.decides(entry)
            self.committed.values[audit_key(entry.command_id, entry.signer)] = entry.SerializeToString()
        receipt = Receipt(
            command_id=command.parse(signed)[0].command_id,
            signer=signed.signer,
            code=entry.code,
            reason=entry.reason,
            path=entry.path,
            tx_id=entry.tx_id or "cd" * 32,
            outcome=code_pb2.OUTCOME_COMMITTED,
        )
        self.says(receipt)
        return receipt


Document = Callable[[ProvingGateway], Awaitable[Any]]


async def consent(gateway: ProvingGateway) -> Receipt:
    return (await Consents(gateway.connection).grant(LET_IN))[1].receipt


async def revocation(gateway: ProvingGateway) -> Receipt:
    return (await Consents(gateway.connection).revoke(uuid7())).receipt


async def suspension(gateway: ProvingGateway) -> Receipt:
    return await Registration(gateway.connection).suspend(gateway.wallet.address, "lost-key")


async def reinstatement(gateway: ProvingGateway) -> Receipt:
    return await Registration(gateway.connection).reinstate(gateway.wallet.address)


async def review_of_broken_glass(gateway: ProvingGateway) -> Receipt:
    at = Registration(gateway.connection)
    return await at.review_break_glass(uuid7(), gateway.wallet.address, justified=True)


async def vote(gateway: ProvingGateway) -> Receipt:
    identity = IdentityDocument(address=gateway.wallet.address, registration_id=uuid7())
    return (await Registration(gateway.connection).review(identity, approve=False)).receipt


async def registration(gateway: ProvingGateway) -> Receipt:
    return await Registration(gateway.connection).register()


DOCUMENTS = [registration, consent, revocation, suspension, reinstatement, review_of_broken_glass, vote]
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.__name__)


@every_document
async def test_what_was_done_is_told_as_the_members_peers_hold_it(document: Document) -> None:
    def embellish(receipt: Receipt) -> None:
        receipt.tx_id, receipt.reason, receipt.already_committed = "ef" * 32, "made up", True

    gateway = ProvingGateway(says=embellish)
    receipt = await document(gateway)
    assert (receipt.code, receipt.tx_id, receipt.reason) == (code_pb2.CODE_OK, "ab" * 32, "")
    assert receipt.outcome == code_pb2.OUTCOME_COMMITTED


@every_document
async def test_a_gateway_that_says_it_is_done_and_never_carried_it_is_not_believed(
    document: Document,
) -> None:
    gateway = ProvingGateway(carries=False)
    with pytest.raises(Unproven) as caught:
        await document(gateway)
    # An unknown outcome like any other, with what can be sent again: it has no second effect.
    assert isinstance(caught.value, UnknownOutcome)
    assert caught.value.again == tuple(gateway.sent)
    assert "another member's gateway" in caught.value.reason


def by_a_consortium_of_its_own(evidence: Evidence) -> Evidence:
    forged = Evidence()
    forged.CopyFrom(evidence)
    other = Committed(Network())
    other.values = {"k": b"v"}
    forged.endorsed_state = other.evidence().endorsed_state
    return forged


def unsigned(evidence: Evidence) -> Evidence:
    return Evidence(commands=evidence.commands, registrations=evidence.registrations)


def too_few(evidence: Evidence) -> MeshError:
    return MeshError(code_pb2.CODE_UNAVAILABLE, "the peers of too few members answer")


def not_found(evidence: Evidence) -> MeshError:
    return MeshError(code_pb2.CODE_NOT_FOUND, "no such command")


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (by_a_consortium_of_its_own, "INTEGRITY"),
        (unsigned, "INTEGRITY"),
        (too_few, "UNKNOWN_OUTCOME"),
        # Nobody takes it for an answer to what was asked: that there is no such identity, or no such consent.
        (not_found, "UNKNOWN_OUTCOME"),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
async def test_without_a_proof_nobody_is_told_that_it_is_done(
    evidence: Callable[[Evidence], Evidence | MeshError], code: str
) -> None:
    with pytest.raises(Unproven) as caught:
        await suspension(ProvingGateway(evidence=evidence))
    assert caught.value.code_name == code


async def test_a_proof_of_another_command_under_the_same_id_proves_nothing() -> None:
    gateway = ProvingGateway(carries=False)

    def another(_: Evidence) -> Evidence:
        sent = gateway.sent[-1].group.commands[0]
        command_id = command.parse(sent)[0].command_id
        raw = command.make(pb.RevokeConsent(consent_id=uuid7()), channel=CHANNEL, command_id=command_id)
        gateway.committed.enter(gateway.wallet.sign_command(raw))
        return gateway.committed.evidence()

    gateway.evidence = another
    with pytest.raises(Unproven) as caught:
        await consent(gateway)
    assert caught.value.code_name == "INTEGRITY"


def refused(entry: AuditEntry) -> None:
    entry.code, entry.reason, entry.path = code_pb2.CODE_FORBIDDEN, "not yours", "body.consent.patient"


def as_done(receipt: Receipt) -> None:
    receipt.code, receipt.reason, receipt.path = code_pb2.CODE_OK, "", ""


def as_refused(receipt: Receipt) -> None:
    receipt.code, receipt.reason = code_pb2.CODE_FORBIDDEN, "made up"


async def test_a_registration_that_the_channel_refused_is_told_as_the_members_peers_hold_it() -> None:
    def refused(entry: AuditEntry) -> None:
        entry.code, entry.reason = code_pb2.CODE_FORBIDDEN, "the certificate is for another role"

    # Who was refused is registered nowhere.
    without = lambda given: Evidence(endorsed_state=given.endorsed_state, commands=given.commands)  # noqa: E731
    gateway = ProvingGateway(decides=refused, evidence=without)

    with pytest.raises(NotCommitted) as caught:
        await registration(gateway)

    told = caught.value.receipt
    assert told.reason == "the certificate is for another role"
    client = cast(Client, SimpleNamespace(wallet=gateway.wallet, trail=Trail(gateway.connection)))
    (found,) = await verify_receipts(client, [told])
    assert found.ok


async def test_a_refusal_on_the_channel_is_told_as_the_members_peers_hold_it() -> None:
    def invent_a_reason(receipt: Receipt) -> None:
        receipt.code, receipt.reason = code_pb2.CODE_CONFLICT, "sign it again"

    with pytest.raises(NotCommitted) as caught:
        await suspension(ProvingGateway(decides=refused, says=invent_a_reason))
    assert (caught.value.code_name, caught.value.reason) == ("FORBIDDEN", "not yours")


@pytest.mark.parametrize(
    "lies",
    [
        ProvingGateway(decides=refused, says=as_done),
        ProvingGateway(says=as_refused),
        ProvingGateway(carries=False, says=as_refused),
    ],
    ids=["refused, it says done", "done, it says refused", "not carried, it says refused for good"],
)
async def test_a_gateway_does_not_turn_what_the_channel_decided_into_its_opposite(
    lies: ProvingGateway,
) -> None:
    with pytest.raises(Unproven):
        await suspension(lies)


async def test_an_answer_without_receipts_is_no_success() -> None:
    class Silent(ProvingGateway):
        async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
            return gateway_pb2.SubmitResponse()

    with pytest.raises(Unproven):
        await suspension(Silent())


async def test_a_receipt_of_a_vote_that_leaves_it_open_is_no_refusal() -> None:
    def unknown(receipt: Receipt) -> None:
        receipt.code, receipt.outcome = code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN

    with pytest.raises(UnknownOutcome) as caught:
        await vote(ProvingGateway(says=unknown))
    assert not isinstance(caught.value, Unproven)


async def test_of_a_group_the_own_part_proves_the_whole() -> None:
    gateway = ProvingGateway()
    other = gateway.committed.person("patient")
    asked: list[str] = []
    enrolled = gateway.enrolled

    async def noted(method: Any, request: Any) -> Any:
        asked.append(request.signer)
        return await enrolled(method, request)

    gateway.enrolled = noted  # type: ignore[method-assign]
    meant = [(other.signer, pb.Consent(consent_id=uuid7())), (gateway.wallet, pb.Consent(consent_id=uuid7()))]
    group = command.make_group(meant, channel=CHANNEL)
    receipts = await submit_group(gateway.connection, group)
    assert [one.receipt.code for one in receipts] == [code_pb2.CODE_OK] * 2
    assert asked == [gateway.wallet.address]


async def test_of_a_group_each_own_receipt_is_proven_and_of_others_nothing_is_left_that_is_not() -> None:
    def forge(receipt: Receipt) -> None:
        receipt.tx_id, receipt.command_id, receipt.signer = "de" * 32, "forged", "cb1somebody"
        receipt.basis.policy_version = 9
        receipt.command_sha256 = bytes(32)

    class Embellishing(ProvingGateway):
        async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
            answer = await super().call(method, request)
            for entry in getattr(answer, "receipts", ()):
                entry.stored.cid = "forged"
            return answer

    gateway = Embellishing(says=forge)
    other = gateway.committed.person("patient")
    whose = [gateway.wallet, other.signer, gateway.wallet]
    group = command.make_group([(one, pb.Consent(consent_id=uuid7())) for one in whose], channel=CHANNEL)

    told = await submit_group(gateway.connection, group)

    ids = [command.parse(signed)[0].command_id for signed in group.commands]
    assert [one.receipt.command_id for one in told] == ids
    assert [one.receipt.signer for one in told] == [one.address for one in whose]
    assert {one.receipt.tx_id for one in told} == {"ab" * 32}
    assert not any(one.receipt.HasField("basis") for one in told)
    assert bytes(32) not in {one.receipt.command_sha256 for one in told}
    assert not any(one.HasField("stored") for one in told)


async def test_of_a_group_that_is_held_in_part_alone_nothing_is_told_to_be_done() -> None:
    class Partly(ProvingGateway):
        def _carry(self, signed: pb.SignedCommand) -> Receipt:
            self.carries = not self.committed.commands
            return super()._carry(signed)

    gateway = Partly()
    meant = [(gateway.wallet, pb.Consent(consent_id=uuid7())) for _ in range(3)]
    with pytest.raises(Unproven):
        await submit_group(gateway.connection, command.make_group(meant, channel=CHANNEL))


async def test_many_receipts_are_checked_each_by_itself() -> None:
    gateway = ProvingGateway()
    client = cast(Client, SimpleNamespace(wallet=gateway.wallet, trail=Trail(gateway.connection)))
    author, told = gateway.committed.people[0], list[Receipt]()
    for _ in range(20):
        record = gateway.committed.put(author, bytes(32))
        told.append(
            Receipt(
                code=code_pb2.CODE_OK,
                command_id=record.command_id,
                signer=author.address,
                tx_id=record.tx_id,
                outcome=code_pb2.OUTCOME_COMMITTED,
            )
        )
    told[3].tx_id = "cd" * 32
    told[5].command_id = uuid7()
    found = await verify_receipts(client, told)
    assert [place for place, one in enumerate(found) if not one.ok] == [3, 5]
    assert [one.command_id for one in found] == [one.command_id for one in told]


@pytest.mark.parametrize("carried", [False, True])
async def test_that_nothing_was_done_another_member_says_once_nobody_can_carry_it(
    carried: bool,
) -> None:
    elsewhere = ProvingGateway(carries=carried, evidence=lambda given: given if carried else not_found(given))
    client = cast(Client, SimpleNamespace(wallet=elsewhere.wallet, trail=Trail(elsewhere.connection)))
    body, now_ms = pb.RevokeConsent(consent_id=uuid7()), time.time_ns() // 1_000_000

    def signed(expired_seconds_ago: int) -> pb.SignedCommand:
        issued = now_ms - (300 + expired_seconds_ago) * 1000
        made = elsewhere.wallet.sign_command(command.make(body, channel=CHANNEL, now_ms=issued))
        elsewhere._carry(made)
        return made

    for too_early in (-200, 0, 170):
        with pytest.raises(MeshError) as caught:
            await was_never_done(client, signed(too_early))
        assert caught.value.code_name == "CONFLICT"
    assert await was_never_done(client, signed(190)) is not carried
    elsewhere.evidence = unsigned
    with pytest.raises(MeshError) as caught:
        await was_never_done(client, signed(190))
    assert caught.value.code_name == "INTEGRITY"


async def test_a_command_is_verified_by_its_id_alone_and_a_receipt_by_its_transaction_too() -> None:
    gateway = ProvingGateway()
    author = gateway.committed.people[0]
    record = gateway.committed.put(author, bytes(32))

    async def away(_: str) -> bytes:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "no such block here")

    trail = SimpleNamespace(checked=Trail(gateway.connection).checked, blob=away)
    client = cast(Client, SimpleNamespace(wallet=gateway.wallet, trail=trail))
    found = await verify_receipt(client, None, record.command_id, author.address)
    other = await verify_receipt(client, "", record.command_id, author.address)
    assert found.tx_id == record.tx_id
    assert [check.name for check in found.checks if not check.ok] == ["cid"]
    assert [check.name for check in other.checks if not check.ok] == ["transaction", "cid"]
