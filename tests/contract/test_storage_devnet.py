"""Storage of both members on the real network: decisions from real blocks, keys from real collections."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cbmdhi import waiting
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import SealedBatch
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import cid, command, envelope, hpke
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import sealed_record_key_name
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from ops.devnet import Network
from services.runtime.client import call, connect
from services.runtime.config import Tls
from services.runtime.errors import MeshError
from services.storage.domain.batch import MAX_MESSAGE_BYTES
from tests.contract.people import Administrators, IdentityCa, Person
from tests.support.waiting import until

SECONDS = 30.0
# Storage asks identity whom the CAs have revoked, and identity the other member's gateway.
SERVICES = tuple(
    f"{member}-{name}"
    for name in ("ledger", "identity", "storage", "gateway")
    for member in ("mercy", "lakeside")
)
MERCY, LAKESIDE = "MercyMSP", "LakesideMSP"
CONTENT = b'{"resourceType": "Observation"}'


@pytest.fixture(scope="module")
def services(network: Network) -> Iterator[Network]:
    for name in SERVICES:
        network.start(name)
    yield network
    for name in reversed(SERVICES):
        network.stop(name)


@dataclass
class Member:
    """A member's ledger and storage as its gateway sees them."""

    name: str
    ledger: Any
    storage: Any
    ca: IdentityCa

    async def submit(self, submission: ledger_pb2.SealedGroup, *seals: SealedBatch) -> ledger_pb2.Receipt:
        request = ledger_pb2.SubmitRequest(submissions=[submission], seals=seals)
        answer = await call(self.ledger.Submit, request, deadline_seconds=SECONDS)
        return answer.groups[0].receipts[0]

    async def done(self, submission: ledger_pb2.SealedGroup, *seals: SealedBatch) -> ledger_pb2.Receipt:
        receipt = await self.submit(submission, *seals)
        assert receipt.code == code_pb2.CODE_OK, (receipt.reason, receipt.path)
        return receipt

    async def open(self, access: ledger_pb2.Receipt) -> storage_pb2.OpenResponse:
        """As a gateway's caller would, who asks again: a storage that has just begun hears within seconds
        whom each member's CA has revoked."""
        request = storage_pb2.OpenRequest(tx_id=access.tx_id, command_id=access.command_id)

        async def opened() -> storage_pb2.OpenResponse | None:
            try:
                return await call(self.storage.Open, request, deadline_seconds=SECONDS)
            except MeshError as err:
                if err.code != code_pb2.CODE_UNAVAILABLE:
                    raise
                return None

        return await waiting.until(opened, "storage opens", deadline_seconds=SECONDS)


@dataclass(frozen=True)
class Known:
    """A registered person with the HPKE key."""

    person: Person
    hpke_private: bytes

    @property
    def address(self) -> str:
        return self.person.address


def tls_of(config_file: str) -> Tls:
    config = tomllib.loads(Path(config_file).read_text(encoding="utf-8"))
    return Tls.model_validate(config["tls"])


@pytest.fixture
async def members(services: Network) -> AsyncIterator[tuple[Member, Member]]:
    async with AsyncExitStack() as stack:
        made: list[Member] = []
        for name in ("mercy", "lakeside"):
            described = services.endpoints()["organisations"][name]["services"]
            tls = tls_of(described["gateway"]["config"])
            to = {
                service: await stack.enter_async_context(
                    connect(
                        described[service]["grpc"],
                        tls,
                        service=service,
                        organisation=name,
                        max_message_bytes=MAX_MESSAGE_BYTES,
                    )
                )
                for service in ("ledger", "storage")
            }
            made.append(
                Member(
                    name,
                    ledger_pb2_grpc.LedgerServiceStub(to["ledger"]),
                    storage_pb2_grpc.StorageServiceStub(to["storage"]),
                    IdentityCa.of(services, name),
                )
            )
        yield made[0], made[1]


async def register(
    at: Member, role: int, reviewers: list[tuple[Member, Person]], custodians: tuple[str, ...] = ()
) -> Known:
    """An active identity; a patient's record key is sealed to the custodians' vaults."""
    person, (private, public) = Person(at.ca.channel), hpke.generate()
    body = person.registration(at.ca, role)
    body.hpke_public_key = public
    if role == pb.ROLE_PATIENT:
        body.evidence_cid = cid.raw(b"sealed evidence")
    known = await call(at.ledger.ListMembers, ledger_pb2.ListMembersRequest(), deadline_seconds=SECONDS)
    vaults = {member.msp: member.vault_public_key for member in known.members}
    sealed = {
        msp: hpke.seal(vaults[msp], private, hpke.RECORD_KEY, person.address, msp) for msp in custodians
    }
    for msp, key in sealed.items():
        body.custodians.add(msp=msp, sealed_key_sha256=hashlib.sha256(key).digest())
    submission = person.means(body)
    for msp, key in sealed.items():
        submission.sealed_keys.add(msp=msp, key=sealed_record_key_name(person.address), sealed=key)
    receipt = await at.done(submission)
    for member, reviewer in reviewers:
        review = pb.ReviewRegistration(
            address=person.address,
            registration_id=receipt.command_id,
            decision=pb.DECISION_APPROVE,
            reason_code="identity-verified",
            evidence_cid=body.evidence_cid,
        )
        await member.done(reviewer.means(review))
    return Known(person, private)


@dataclass
class Case:
    """A patient with a record that mercy wrote, and a clinician of lakeside."""

    mercy: Member
    lakeside: Member
    patient: Known
    clinician: Known
    record_id: str
    salt: bytes

    @classmethod
    async def make(
        cls, members: tuple[Member, Member], administrators: Administrators, *custodians: str
    ) -> Case:
        mercy, lakeside = members
        reviewers = list(zip(members, await administrators.known(mercy.done), strict=True))
        patient = await register(mercy, pb.ROLE_PATIENT, reviewers, custodians)
        engine = await register(mercy, pb.ROLE_ENGINE, reviewers[:1])
        clinician = await register(lakeside, pb.ROLE_CLINICIAN, reviewers)
        case = cls(mercy, lakeside, patient, clinician, uuid7(), envelope.new_salt())
        body = pb.PutRecord(
            record_id=case.record_id,
            version=1,
            patient=patient.address,
            category="observations",
            content_commitment=envelope.commitment(case.salt, CONTENT),
            content_bytes=len(CONTENT),
        )
        submission = engine.person.means(body)
        [signed] = submission.item.group.commands
        answer = await case.seal(command.parse(signed)[0].command_id, engine.address)
        [sealed] = answer.results
        submission.item.contents.append(sealed.stored)
        submission.sealed_keys.extend(sealed.sealed_keys)
        await mercy.done(submission, *answer.seals)
        return case

    async def seal(self, command_id: str, signer: str) -> storage_pb2.SealResponse:
        item = storage_pb2.SealItem(
            record_id=self.record_id,
            version=1,
            patient=self.patient.address,
            content=CONTENT,
            salt=self.salt,
            content_commitment=envelope.commitment(self.salt, CONTENT),
            command_id=command_id,
            signer=signer,
        )
        request = storage_pb2.SealRequest(items=[item])
        answer = await call(self.mercy.storage.Seal, request, deadline_seconds=SECONDS)
        assert answer.results[0].code == code_pb2.CODE_OK, answer.results[0].reason
        return answer

    async def access(self, at: Member) -> ledger_pb2.Receipt:
        body = pb.Access(
            patient=self.patient.address,
            record_id=self.record_id,
            version=1,
            purpose="TREAT",
            action="read",
        )
        return await at.submit(self.clinician.person.means(body))

    async def consent(self) -> None:
        provision = pb.Provision(
            effect=pb.EFFECT_PERMIT,
            grantees=[pb.Grantee(address=self.clinician.address)],
            purposes=["TREAT"],
        )
        body = pb.Consent(consent_id=uuid7(), patient=self.patient.address, provisions=[provision])
        await self.mercy.done(self.patient.person.means(body))

    def read(self, opened: storage_pb2.OpenResponse, command_id: str) -> bytes:
        """What the clinician's client makes of it, the author's commitment checked."""
        data_key = hpke.open(
            self.clinician.hpke_private,
            opened.sealed_data_key,
            hpke.DATA_KEY,
            self.clinician.address,
            command_id,
            self.record_id,
            "1",
        )
        binding = envelope.Binding(self.patient.address, self.record_id, 1)
        found = envelope.open(opened.blocks, data_key, binding)
        assert envelope.commitment(found.salt, found.content) == opened.record.content_commitment
        return found.content


async def test_no_key_before_the_consent_and_the_custodians_key_after_it(
    members: tuple[Member, Member], administrators: Administrators
) -> None:
    _, lakeside = members
    case = await Case.make(members, administrators, LAKESIDE)
    refused = await case.access(lakeside)
    assert refused.code == code_pb2.CODE_FORBIDDEN
    for member in members:
        with pytest.raises(MeshError) as caught:
            await member.open(refused)
        assert caught.value.code == code_pb2.CODE_FORBIDDEN

    await case.consent()
    permitted = await case.access(lakeside)
    assert permitted.code == code_pb2.CODE_OK, permitted.reason
    for member, msp in zip(members, (MERCY, LAKESIDE), strict=True):
        opened = await member.open(permitted)
        assert opened.released_by == msp
        assert case.read(opened, permitted.command_id) == CONTENT


async def test_a_member_without_the_key_has_it_released_by_the_writer(
    members: tuple[Member, Member], administrators: Administrators
) -> None:
    _, lakeside = members
    case = await Case.make(members, administrators, MERCY)
    await case.consent()
    permitted = await case.access(lakeside)
    opened = await lakeside.open(permitted)
    assert opened.released_by == MERCY
    assert case.read(opened, permitted.command_id) == CONTENT


async def test_a_writer_key_that_the_channel_knows_is_not_sent_again(
    members: tuple[Member, Member], administrators: Administrators
) -> None:
    case = await Case.make(members, administrators, LAKESIDE)

    async def is_known() -> bool:
        answer = await case.seal(uuid7(), case.clinician.address)
        return not answer.results[0].sealed_keys

    await until(is_known, "the channel knows the writer key")
