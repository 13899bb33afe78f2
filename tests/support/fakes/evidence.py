"""Versions of records as the members' peers hold them, with their authors: to be checked, and forged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry, RecordVersion, StoredContent
from cbmdhi.ledger.v1.ledger_pb2 import Evidence
from cbmdhi.protocol import command, hpke, signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import audit_key, record_key
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_blocks import Network, Organisation, issue_certificate

_ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
PATIENT = "cb1patient"


class Person:
    """Somebody whom a member's CA certified and who registered."""

    def __init__(self, ca: Organisation, role: str = "clinician") -> None:
        self.signer = command.KeySigner(signature.new_private_key())
        attributes = json.dumps({"attrs": {"cbmdhi.role": role}}).encode()
        key = self.signer.private_key.public_key()
        certificate = issue_certificate(
            ca, self.signer.address, key, x509.UnrecognizedExtension(_ATTRIBUTES, attributes)
        )
        body = pb.RegisterIdentity(
            address=self.signer.address,
            role=pb.Role.Value(f"ROLE_{role.upper()}"),
            home_msp=ca.msp_id,
            signing_public_key=signature.spki(key),
            hpke_public_key=hpke.generate()[1],
            enrolment_certificate=certificate.public_bytes(Encoding.DER),
        )
        self.registration = self.signer.sign_command(command.make(body, channel=CHANNEL))

    @property
    def address(self) -> str:
        return self.signer.address

    def lets(self, device: str, *actions: str, channel: Channel = CHANNEL) -> pb.SignedDelegation:
        """A delegation to a device."""
        raw = pb.Delegation(
            delegation_id=uuid7(),
            channel=channel.name,
            genesis_sha256=channel.genesis_sha256,
            delegator=self.address,
            delegate=device,
            actions=actions,
        ).SerializeToString()
        signed = signature.sign(self.signer.private_key, signature.DELEGATION, raw)
        return pb.SignedDelegation(delegation=raw, signature=signed)


@dataclass
class Committed:
    """What a network's peers hold."""

    network: Network = field(default_factory=Network)
    values: dict[str, bytes] = field(default_factory=dict)
    commands: dict[str, pb.SignedCommand] = field(default_factory=dict)
    people: list[Person] = field(default_factory=list)

    def person(self, role: str = "clinician") -> Person:
        """Somebody new of mercy."""
        self.people.append(Person(self.network.mercy, role))
        return self.people[-1]

    def put(
        self,
        author: Person,
        commitment: bytes,
        *,
        record_id: str = "",
        version: int = 1,
        patient: str = PATIENT,
        stored: StoredContent | None = None,
        device: Person | None = None,
        delegation: pb.SignedDelegation | None = None,
        meant: bytes = b"",
        channel: Channel = CHANNEL,
    ) -> RecordVersion:
        """A committed version. `meant`: what the author really signed, when it is another commitment."""
        body = pb.PutRecord(
            record_id=record_id or uuid7(),
            version=version,
            patient=patient,
            category="observations",
            content_commitment=meant or commitment,
        )
        signer = command.KeySigner((device or author).signer.private_key, delegation)
        signed = signer.sign_command(command.make(body, channel=channel, delegation=delegation))
        record = RecordVersion(
            record_id=body.record_id,
            version=version,
            patient=patient,
            category="observations",
            content_commitment=commitment,
            author=author.address,
            signed_by=signed.signer,
            content=stored,
            command_id=command.parse(signed)[0].command_id,
            tx_id="ab" * 32,
        )
        self.values[record_key(record.record_id, version)] = record.SerializeToString()
        self.enter(signed, patient)
        return record

    def enter(self, signed: pb.SignedCommand, patient: str = PATIENT) -> AuditEntry:
        """The audit entry of a command that was done."""
        command_id = command.parse(signed)[0].command_id
        entry = AuditEntry(
            command_id=command_id,
            signer=signed.signer,
            patient=patient,
            code=code_pb2.CODE_OK,
            command_sha256=hashlib.sha256(signed.command).digest(),
            tx_id="ab" * 32,
        )
        self.commands[command_id] = signed
        self.values[audit_key(command_id, signed.signer)] = entry.SerializeToString()
        return entry

    def evidence(self, *keys: str, endorsed: bytes = b"") -> Evidence:
        """Of some state keys, by default of all."""
        chosen = {key: self.values[key] for key in keys or self.values}
        return Evidence(
            endorsed_state=endorsed or self.network.state(chosen),
            commands=self.commands.values(),
            registrations=[person.registration for person in self.people],
        )

    def of(self, records: Sequence[RecordVersion]) -> Evidence:
        """Of versions of records alone."""
        return self.evidence(*(record_key(record.record_id, record.version) for record in records))
