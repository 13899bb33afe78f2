"""Who writes what in evidence.json: people that a member certified, a device's command, and what the channel
holds of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import Message

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry, RecordVersion, StoredContent, WriterKey
from cbmdhi.protocol import address, cid, command, hpke, signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.enrolment import ATTRIBUTES_OID
from cbmdhi.protocol.state_keys import audit_key, record_key
from tests.support.fakes.fabric_blocks import Network, Organisation, issue_certificate
from tests.vectors.commands import AUTHOR, CONTENT, DEVICE, delegation, put_record
from tests.vectors.fixed import AT_MS, CHANNEL, Fixed, hpke_private, key, same, sign, signed, uuid

STORAGE = {"MercyMSP": key(1020), "LakesideMSP": key(1021)}
RECORD_ID, COMMAND_ID = uuid(1), uuid(9)
PLACE = record_key(RECORD_ID, 1)
_TX_ID = hashlib.sha256(b"a transaction").hexdigest()
STORED = StoredContent(
    cid=cid.raw(CONTENT),
    stored_bytes=len(CONTENT),
    writer_key=WriterKey(key_id=uuid(30), epoch=1, sealed_key_sha256=hashlib.sha256(b"sealed").digest()),
    replicas=list(STORAGE),
    root_sha256=hashlib.sha256(b"a list of links").digest(),
)


@dataclass(frozen=True)
class Story:
    """A record that a clinician's device wrote, at two members."""

    network: Network
    people: list[pb.SignedCommand]
    written: pb.SignedCommand
    record: RecordVersion
    entry: AuditEntry

    @property
    def values(self) -> dict[str, bytes]:
        """What the channel holds of it."""
        return held(self.record, self.entry)


def tell() -> Story:
    """The same each time."""
    network = Network(Fixed(2000))
    people = [registered(network.mercy, AUTHOR, "clinician"), registered(network.mercy, DEVICE, "device")]
    body = put_record(RECORD_ID)
    written = write(body, DEVICE, delegation(AUTHOR, DEVICE))
    return Story(network, people, written, version_of(body, written, AUTHOR), entry_of(body, written, AUTHOR))


def write(
    body: Message,
    by: ec.EllipticCurvePrivateKey,
    within: pb.SignedDelegation | None = None,
    *,
    channel: Channel = CHANNEL,
) -> pb.SignedCommand:
    """The command that is asked for."""
    made = command.make(body, channel=channel, now_ms=AT_MS, command_id=COMMAND_ID, delegation=within)
    return signed(by, made, within)


def version_of(
    body: pb.PutRecord, written: pb.SignedCommand, author: ec.EllipticCurvePrivateKey
) -> RecordVersion:
    """What the chaincode writes of a command that puts a record."""
    return RecordVersion(
        record_id=body.record_id,
        version=body.version,
        patient=body.patient,
        category=body.category,
        content_commitment=body.content_commitment,
        content_bytes=body.content_bytes,
        author=address.of_public_key(author.public_key()),
        writer_msp="MercyMSP",
        content=STORED,
        command_id=COMMAND_ID,
        written_at_ms=AT_MS,
        tx_id=_TX_ID,
        signed_by=written.signer,
    )


def entry_of(body: pb.PutRecord, written: pb.SignedCommand, author: ec.EllipticCurvePrivateKey) -> AuditEntry:
    """What the chaincode writes of its verdict."""
    return AuditEntry(
        command_id=COMMAND_ID,
        signer=written.signer,
        on_behalf_of=address.of_public_key(author.public_key()),
        action="write",
        patient=body.patient,
        record_id=body.record_id,
        version=body.version,
        code=code_pb2.CODE_OK,
        command_sha256=command.sha256(written),
        at_ms=AT_MS,
        tx_id=_TX_ID,
    )


def held(record: RecordVersion, entry: AuditEntry) -> dict[str, bytes]:
    """A version and a verdict under the keys that are asked for."""
    return {PLACE: same(record), audit_key(COMMAND_ID, entry.signer): same(entry)}


def attributes(role: str) -> x509.UnrecognizedExtension:
    """A role as Fabric CA writes it into a certificate."""
    return x509.UnrecognizedExtension(
        ATTRIBUTES_OID, json.dumps({"attrs": {"cbmdhi.role": role}}, separators=(",", ":")).encode()
    )


def registered(
    ca: Organisation,
    who: ec.EllipticCurvePrivateKey,
    role: str,
    *,
    as_address: str = "",
    of_key: ec.EllipticCurvePrivateKey | None = None,
    certified_as: str = "",
    signed_by: ec.EllipticCurvePrivateKey | None = None,
    home_msp: str = "",
) -> pb.SignedCommand:
    """A registration; as_address: of another; of_key: with another's certificate; certified_as: of another
    role; signed_by: by another; home_msp: at another member than who certified it."""
    where = as_address or address.of_public_key(who.public_key())
    certificate = issue_certificate(ca, where, (of_key or who).public_key(), attributes(certified_as or role))
    body = pb.RegisterIdentity(
        address=where,
        role=f"ROLE_{role.upper()}",
        home_msp=home_msp or ca.msp_id,
        signing_public_key=signature.spki(who.public_key()),
        hpke_public_key=hpke.public_of(hpke_private(7)),
        enrolment_certificate=certificate.public_bytes(Encoding.DER),
    )
    raw = command.make(body, channel=CHANNEL, now_ms=AT_MS, command_id=uuid(50 if role == "device" else 51))
    return pb.SignedCommand(
        command=raw, signature=sign(signed_by or who, signature.COMMAND, raw), signer=where
    )
