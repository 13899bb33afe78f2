"""An active patient with writers and records on the channel, by way of the ledger services."""

import hashlib
import os
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import cid, command, replica, signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import sealed_record_key_name, sealed_writer_key_name
from ops.devnet import Network
from tests.contract.people import IdentityCa, Person, Submit

MERCY, LAKESIDE = "MercyMSP", "LakesideMSP"


@dataclass(frozen=True)
class Care:
    """A patient of mercy, mercy's engine, and the writer key that it has for the patient."""

    patient: Person
    engine: Person
    writer_key: state_pb2.WriterKey
    sealed_key: bytes

    @classmethod
    async def begin(cls, submit: Submit, mercy: IdentityCa, reviewers: tuple[Person, Person]) -> "Care":
        """Registered, reviewed by the administrators of mercy and of lakeside, active."""
        patient, engine = Person(mercy.channel), Person(mercy.channel)
        await _register(submit, patient, mercy, command_pb2.ROLE_PATIENT, reviewers)
        await _register(submit, engine, mercy, command_pb2.ROLE_ENGINE, reviewers[:1])
        sealed_key = os.urandom(1_200)
        digest = hashlib.sha256(sealed_key).digest()
        key = state_pb2.WriterKey(key_id=uuid7(), epoch=1, sealed_key_sha256=digest)
        return cls(patient, engine, key, sealed_key)

    def record(self) -> ledger_pb2.SealedGroup:
        """A record, with the writer key sealed to the patient beside it."""
        body = command_pb2.PutRecord(
            record_id=uuid7(),
            version=1,
            patient=self.patient.address,
            category="observations",
            content_commitment=os.urandom(32),
            content_bytes=1_200,
        )
        submission = self.engine.means(body)
        submission.item.contents.add(
            cid=cid.raw(os.urandom(32)),
            stored_bytes=1_300,
            writer_key=self.writer_key,
            replicas=[MERCY, LAKESIDE],
        )
        name = sealed_writer_key_name(MERCY, self.writer_key.key_id)
        for msp in (MERCY, LAKESIDE):
            submission.sealed_keys.add(msp=msp, key=name, sealed=self.sealed_key)
        return submission


class Storages:
    """The word of mercy's and lakeside's storage that they hold contents: by their keys, on this machine."""

    def __init__(self, network: Network, channel: Channel) -> None:
        endpoints = network.endpoints()
        self._genesis = channel.genesis_sha256
        self._keys = {}
        for organisation in (endpoints["organisations"][name] for name in ("mercy", "lakeside")):
            config = tomllib.loads(Path(organisation["services"]["storage"]["config"]).read_text())
            pem = Path(config["storage_signing_key_file"]).read_bytes()
            self._keys[organisation["msp_id"]] = signature.load_private_key(pem)

    def seal(self, submissions: Sequence[ledger_pb2.SealedGroup]) -> state_pb2.SealedBatch:
        """Of records of one command each: sealed and replicated together."""
        stored = [one.item.contents[0] for one in submissions]
        root = cid.digest(cid.from_bytes(cid.batch_root([cid.to_bytes(one.cid) for one in stored]).cid))
        contents = replica.contents(
            (
                content.cid,
                command.parse(signed)[0].command_id,
                signed.signer,
                replica.stated(content.stored_bytes, content.writer_key),
            )
            for content, one in zip(stored, submissions, strict=True)
            for signed in one.item.group.commands
        )
        for content in stored:
            content.root_sha256 = root
        digest, now_ms = hashlib.sha256(contents).digest(), int(time.time() * 1000)
        receipts = [
            replica.sign_receipt(key, self._genesis, root, digest, msp, now_ms)
            for msp, key in self._keys.items()
        ]
        return state_pb2.SealedBatch(root_sha256=root, contents=contents, receipts=receipts)


async def _register(
    submit: Submit, person: Person, ca: IdentityCa, role: int, reviewers: Sequence[Person]
) -> None:
    body = person.registration(ca, role)
    submission_keys: list[tuple[str, bytes]] = []
    if role == command_pb2.ROLE_PATIENT:
        body.evidence_cid = cid.raw(b"sealed evidence")
        for msp in (MERCY, LAKESIDE):
            sealed = os.urandom(2_600)
            body.custodians.add(msp=msp, sealed_key_sha256=hashlib.sha256(sealed).digest())
            submission_keys.append((msp, sealed))
    submission = person.means(body)
    for msp, sealed in submission_keys:
        submission.sealed_keys.add(msp=msp, key=sealed_record_key_name(person.address), sealed=sealed)
    receipt = await _done(submit, submission)
    for reviewer in reviewers:
        review = command_pb2.ReviewRegistration(
            address=person.address,
            registration_id=receipt.command_id,
            decision=command_pb2.DECISION_APPROVE,
            reason_code="identity-verified",
            evidence_cid=body.evidence_cid,
        )
        await _done(submit, reviewer.means(review))


async def _done(submit: Submit, submission: ledger_pb2.SealedGroup) -> ledger_pb2.Receipt:
    receipt = await submit(submission)
    assert receipt.code == code_pb2.CODE_OK, (receipt.code, receipt.reason, receipt.path)
    return receipt
