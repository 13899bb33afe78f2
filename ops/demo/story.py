"""The story of the paper (sections 3-2 and 4, figures 3 and 4), told step by step on a running network.

Each step does something that a person or a system of the two hospitals would do, checks that it came out as
it must, and gives back what it proved. A step whose check fails raises StoryFailed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from cbmdhi import fhir
from cbmdhi.client import Client
from cbmdhi.client.consents import consent, provision
from cbmdhi.client.records import NewRecord, Written
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1 import state_pb2
from cbmdhi.errors import AccessRefused, name_of
from cbmdhi.protocol import json_text
from cbmdhi.protocol.ids import uuid7
from cbmdhi.verify import Verification, verify_receipt
from cbmdhi.waiting import until
from ops.demo import cast, data
from ops.demo.cast import Stage

Proofs = list[str]


class StoryFailed(Exception):
    """Something came out otherwise than it must."""


@dataclass
class Told:
    """What the steps leave for those after them."""

    written: list[Written] = field(default_factory=list)
    shared_record: NewRecord | None = None
    consent_id: str = ""


class Story:
    """Two hospitals, one patient. Enter it, tell its `steps` in order, leave it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.told = Told()
        self.bundle = data.history()
        self._resources = AsyncExitStack()
        self.mercy_administrator: Client
        self.lakeside_administrator: Client
        self.mercy_clinician: Client
        self.lakeside_clinician: Client
        self.engine: Client
        self.patient: Client

    async def __aenter__(self) -> Story:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @property
    def steps(self) -> list[tuple[str, Callable[[], Awaitable[Proofs]]]]:
        """Title and telling of each step, in order."""
        return [
            ("Administrators, clinicians and an engine are enrolled and registered", self.register_staff),
            ("A patient's wallet makes its keys; mercy and lakeside review", self.register_patient),
            ("Mercy's engine sends the patient's records", self.ingest),
            ("A lakeside clinician asks for a record and is refused", self.refuse),
            ("The patient signs a consent; it and a record are one transaction", self.share),
            ("The clinician reads, and decrypts with their own key", self.read),
            ("The clinician's FHIR application reads it over REST", self.read_by_rest),
            ("The patient revokes; the next reading is refused", self.revoke),
            ("The patient's audit trail", self.audit),
            ("The patient's notifications", self.inbox),
            ("The patient checks a receipt against the members' peers", self.verify),
        ]

    async def register_staff(self) -> Proofs:
        """An administrator of each hospital, two clinicians, mercy's integration engine."""
        stage = self.stage
        self.mercy_administrator = await self._enter(cast.administrator(stage, "mercy"))
        self.lakeside_administrator = await self._enter(cast.administrator(stage, "lakeside"))
        both = (self.mercy_administrator, self.lakeside_administrator)
        for name, member, role, (by, also) in (
            ("mercy_clinician", "mercy", pb.ROLE_CLINICIAN, both),
            ("lakeside_clinician", "lakeside", pb.ROLE_CLINICIAN, both[::-1]),
            ("engine", "mercy", pb.ROLE_ENGINE, both),
        ):
            wallet = "mercy-engine" if name == "engine" else name.replace("_", "-")
            joined = cast.member_of_staff(stage, member, wallet, role, by, also)
            setattr(self, name, await self._enter(joined))
        people = (
            self.mercy_administrator,
            self.lakeside_administrator,
            self.mercy_clinician,
            self.lakeside_clinician,
            self.engine,
        )
        return [
            f"{client.wallet.folder.name}: {client.wallet.address}, certified by the Fabric CA of "
            f"{client.member.name}, active on the channel"
            for client in people
        ]

    async def register_patient(self) -> Proofs:
        """Keys, enrolment, registration, a review by each hospital, active by quorum, notified."""
        name = f"patient-{uuid7()[:13]}"
        wallet = self.stage.wallet(name, "mercy", pb.ROLE_PATIENT)
        self.patient = await self._enter_client(Client(wallet))
        await self.patient.registration.enrol()
        await self.patient.registration.register(data.evidence(self.bundle))
        pending = await self.patient.registration.identity()
        _expect(pending.status == state_pb2.IDENTITY_STATUS_PENDING, "the identity waits for its reviews")
        await cast.approve(self.mercy_administrator, wallet.address)
        after_one = await self.patient.registration.identity()
        _expect(after_one.status == state_pb2.IDENTITY_STATUS_PENDING, "one review is not enough")
        await cast.approve(self.lakeside_administrator, wallet.address)
        await until(lambda: cast.is_active(self.patient), "the identity is active")
        identity = await self.patient.registration.identity()
        await self._wait_for_notification("registration.activated")
        reviewers = " and ".join(sorted(review.msp for review in identity.reviews))
        return [
            f"wallet {name}: {wallet.address}; its private keys never left it in clear",
            "personal data was sealed to the two administrators and lies encrypted off the channel",
            f"pending after one review; active by quorum: {reviewers}; the patient was notified",
        ]

    async def ingest(self) -> Proofs:
        """Over one gRPC stream; a receipt for each record."""
        records = fhir.records_of(self.bundle, self.patient.wallet.address)
        self.told.written = await self.engine.records.put_each(records)
        bad = [entry for entry in self.told.written if not entry.ok]
        _expect(not bad, f"{len(bad)} records were refused: {[str(entry.error) for entry in bad[:3]]}")
        receipts = [entry.receipt for entry in self.told.written]
        blocks = sorted({receipt.receipt.block for receipt in receipts})
        transactions = {receipt.receipt.tx_id for receipt in receipts}
        replicas = {tuple(receipt.stored.replicas) for receipt in receipts}
        _expect(all(len(members) == 2 for members in replicas), "each record is held by both members")
        first = receipts[0]
        return [
            f"{len(receipts)} FHIR R4 resources, {len(receipts)} receipts OK, "
            f"in {len(transactions)} transactions; blocks: {', '.join(map(str, blocks))}",
            f"the first: transaction {first.receipt.tx_id[:16]}…, CID {first.stored.cid}, "
            f"held by {' and '.join(first.stored.replicas)}",
        ]

    async def refuse(self) -> Proofs:
        """No consent yet: refused with the reason, and the refusal stands in a block."""
        record = self._record("Observation")
        refusal = await self._refused(record)
        verification = await verify_receipt(
            self.lakeside_clinician, refusal.receipt.tx_id, refusal.receipt.command_id
        )
        _expect(verification.ok, f"the refusal is on the channel: {_failed(verification)}")
        return [
            f"{refusal.code_name}: {refusal.reason}",
            f"the refusal is in block {refusal.receipt.block}, endorsed by both members",
        ]

    async def share(self) -> Proofs:
        """A new version by mercy's clinician and the patient's consent: all or nothing."""
        record = self._record("Observation")
        resource = {
            **_resource(record),
            "note": [{"text": "Reviewed with the patient; target reached."}],
        }
        updated = NewRecord.of(record.patient, resource, record.record_id, version=2)
        line = provision(grantee=self.lakeside_clinician.wallet.address, purposes=["TREAT"])
        follows = await self.patient.consents.latest()
        body = consent(self.patient.wallet.address, line, follows=follows)
        receipts = await self.patient.records.put_with(
            updated, self.mercy_clinician.wallet, (self.patient.wallet, body)
        )
        transactions = {receipt.receipt.tx_id for receipt in receipts}
        _expect(len(receipts) == 2 and len(transactions) == 1, "record and consent are one transaction")
        self.told.shared_record, self.told.consent_id = updated, body.consent_id
        return [
            f"version 2 of a record, signed by mercy's clinician, and consent {body.consent_id}, "
            f"signed by the patient: one transaction {receipts[0].receipt.tx_id[:16]}…, "
            f"block {receipts[0].receipt.block}",
            "each of the two commands names the other's hash: neither could be committed alone",
        ]

    async def read(self) -> Proofs:
        """Permitted by the consent, released after the commit, checked by the reader."""
        record = self._shared()
        clinician = self.lakeside_clinician
        await until(lambda: self._has_consent(), "the consent is known")
        reading = await clinician.records.read(record.patient, record.record_id, record.version, "TREAT")
        _expect(reading.content == record.content, "what was read is what was written")
        _expect(len(reading.proof.endorsers) == 2, "the peers of both members hold what was read")
        _expect(
            reading.receipt.basis.consent_id == self.told.consent_id,
            "the decision rests on the patient's consent",
        )
        return [
            f"permitted in block {reading.receipt.block} by {', '.join(reading.receipt.basis.policies)} "
            f"under consent {reading.receipt.basis.consent_id}",
            f"key released by {reading.released_by} after that commit; "
            f"{len(reading.content)} bytes decrypted here",
            f"the content matches the commitment that its author {reading.record.author} signed, "
            f"as the peers of {' and '.join(reading.proof.endorsers)} hold it",
        ]

    async def read_by_rest(self) -> Proofs:
        """A plain FHIR client: the gateway's device acts within a delegation, and the channel says so."""
        record = self._shared()
        async with self.lakeside_clinician.fhir(purposes=["TREAT"]) as session:
            resource = await session.read("Observation", record.record_id)
        _expect(resource == _resource(record), "the FHIR resource is the one that was written")
        return [
            f"GET /fhir/Observation/{record.record_id}: version {record.version}, "
            f"status {resource['status']!r}, token bound to a DPoP key",
            "signed by lakeside's gateway within the clinician's delegation: the audit trail names both",
        ]

    async def revoke(self) -> Proofs:
        """Taken back: refused from now on."""
        receipt = await self.patient.consents.revoke(self.told.consent_id)
        refusal = await self._refused(self._shared())
        return [
            f"revoked in block {receipt.receipt.block}",
            f"the next reading: {refusal.code_name} in block {refusal.receipt.block}: {refusal.reason}",
        ]

    async def audit(self) -> Proofs:
        """Every access: who, when, why, under which consent."""

        async def complete() -> list[str]:
            entries = [entry.entry for entry in await self.patient.trail.audit()]
            reads = [entry for entry in entries if entry.action == "read"]
            if [name_of(entry.code) for entry in reads] != ["FORBIDDEN", "OK", "OK", "FORBIDDEN"]:
                return []
            reader = self.lakeside_clinician.wallet.address
            for entry in reads:
                _expect(reader in (entry.signer, entry.on_behalf_of), "each entry names the reader")
            in_person, by_device = reads[1:3]
            _expect(in_person.basis.consent_id == self.told.consent_id, "the entry names the consent")
            _expect(by_device.on_behalf_of == reader, "the entry says that the gateway's device read")
            return [
                f"{len(entries)} entries: {_counted([entry.action for entry in entries])}",
                *(
                    f"read for {entry.purpose} by {entry.on_behalf_of or entry.signer} of {entry.signer_msp}"
                    + (" through its gateway" if entry.on_behalf_of else "")
                    + f": {name_of(entry.code)}"
                    + (f" under consent {entry.basis.consent_id}" if entry.basis.consent_id else "")
                    for entry in reads
                ),
            ]

        return await until(complete, "the trail shows the four readings")

    async def inbox(self) -> Proofs:
        """Registration, consent, accesses."""
        wanted = {
            "registration.activated",
            "record.written",
            "consent.given",
            "consent.revoked",
            "access.permitted",
            "access.refused",
        }

        async def complete() -> list[str]:
            kinds = [entry.kind for entry in await self.patient.inbox.list()]
            return kinds if wanted <= set(kinds) else []

        kinds = await until(complete, f"the inbox holds {', '.join(sorted(wanted))}")
        return [f"{len(kinds)} notifications: {_counted(kinds)}"]

    async def verify(self) -> Proofs:
        """From the patient's side, believing nobody: what `cbmdhi verify` does."""
        written = next(
            entry for entry in self.told.written if entry.record.record_id == self._shared().record_id
        )
        receipt = written.receipt.receipt
        verification = await verify_receipt(self.patient, receipt.tx_id, receipt.command_id, receipt.signer)
        _expect(verification.ok, f"the receipt stands: {_failed(verification)}")
        endorsers = next(check.detail for check in verification.checks if check.name == "endorsements")
        _expect("MercyMSP and LakesideMSP" in endorsers or "LakesideMSP and MercyMSP" in endorsers, endorsers)
        return [f"✓ {check.name}: {check.detail}" for check in verification.checks]

    async def _enter(self, making: Awaitable[Client]) -> Client:
        return await self._enter_client(await making)

    async def _enter_client(self, client: Client) -> Client:
        return await self._resources.enter_async_context(client)

    async def _refused(self, record: NewRecord) -> AccessRefused:
        try:
            await self.lakeside_clinician.records.read(
                record.patient, record.record_id, record.version, "TREAT"
            )
        except AccessRefused as refusal:
            _expect(refusal.code_name == "FORBIDDEN", f"refused for want of consent, not {refusal}")
            _expect(bool(refusal.receipt.tx_id), "the refusal has a transaction")
            return refusal
        raise StoryFailed("a reading without consent was not refused")

    async def _has_consent(self) -> bool:
        document = await self.patient.consents.list()
        return any(entry.consent_id == self.told.consent_id for entry in document.consents)

    async def _wait_for_notification(self, kind: str) -> None:
        async def arrived() -> bool:
            return any(entry.kind == kind for entry in await self.patient.inbox.list())

        await until(arrived, f"the patient is told: {kind}")

    def _record(self, resource_type: str) -> NewRecord:
        return next(
            entry.record
            for entry in self.told.written
            if _resource(entry.record)["resourceType"] == resource_type
        )

    def _shared(self) -> NewRecord:
        if self.told.shared_record is None:
            raise StoryFailed("no record was shared yet: the steps are told in order")
        return self.told.shared_record


def _resource(record: NewRecord) -> dict[str, object]:
    return json_text.parse_object(record.content)


def _expect(true: bool, what: str) -> None:
    if not true:
        raise StoryFailed(what)


def _failed(verification: Verification) -> str:
    return "; ".join(f"{check.name}: {check.detail}" for check in verification.checks if not check.ok)


def _counted(words: list[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))
