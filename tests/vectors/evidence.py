"""evidence.json: what members' peers sign about a record and its command, what a reader compares with it, and
receipts of those who hold it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry, RecordVersion, ReplicaReceipt, StoredContent, WriterKey
from cbmdhi.protocol import address, cid, command, hpke, replica, signature
from cbmdhi.protocol.enrolment import ATTRIBUTES_OID
from cbmdhi.protocol.state_keys import audit_key, record_key
from tests.support.blocks import CHAINCODE, Network, Organisation, issue_certificate
from tests.vectors.commands import AUTHOR, CONTENT, DEVICE, delegation, put_record
from tests.vectors.fixed import AT_MS, CHANNEL, Fixed, Vectors, hpke_private, key, same, sign, signed, uuid

STORAGE = {"MercyMSP": key(1020), "LakesideMSP": key(1021)}
_TX_ID = hashlib.sha256(b"a transaction").hexdigest()


def vectors(_: Vectors) -> Vectors:
    """All vectors."""
    network = Network(Fixed(2000))
    people = [_registered(network.mercy, AUTHOR, "clinician"), _registered(network.mercy, DEVICE, "device")]
    record_id, command_id = uuid(1), uuid(9)
    body, within = put_record(record_id), delegation(AUTHOR, DEVICE)
    raw = command.make(body, channel=CHANNEL, now_ms=AT_MS, command_id=command_id, delegation=within)
    written = signed(DEVICE, raw, within)
    stored = StoredContent(
        cid=cid.raw(CONTENT),
        stored_bytes=len(CONTENT),
        writer_key=WriterKey(key_id=uuid(30), epoch=1, sealed_key_sha256=hashlib.sha256(b"sealed").digest()),
        replicas=list(STORAGE),
        root_sha256=hashlib.sha256(b"a list of links").digest(),
    )
    record = RecordVersion(
        record_id=record_id,
        version=1,
        patient=body.patient,
        category=body.category,
        content_commitment=body.content_commitment,
        content_bytes=body.content_bytes,
        author=address.of_public_key(AUTHOR.public_key()),
        writer_msp="MercyMSP",
        content=stored,
        command_id=command_id,
        written_at_ms=AT_MS,
        tx_id=_TX_ID,
        signed_by=written.signer,
    )
    entry = AuditEntry(
        command_id=command_id,
        signer=written.signer,
        on_behalf_of=record.author,
        action="write",
        patient=body.patient,
        record_id=record_id,
        version=1,
        code=code_pb2.CODE_OK,
        command_sha256=command.sha256(written),
        at_ms=AT_MS,
        tx_id=_TX_ID,
    )
    forged = RecordVersion()
    forged.CopyFrom(record)
    forged.content_commitment = hashlib.sha256(b"forged").digest()
    place, decided = record_key(record_id, 1), audit_key(command_id, written.signer)
    values = {place: same(record), decided: same(entry)}
    good, state = network.state(values), network.state
    mercys, clients = network.peers[0], [network.client, network.lakeside.issue("client")]
    # What fails, by the name that `ProofError.check` has for it.
    cases = [
        ("both members' peers hold it", "", good),
        ("one member's peer alone", "endorsements", state(values, endorsers=[mercys])),
        ("one peer twice", "endorsements", state(values, endorsers=[mercys, mercys])),
        ("signed by members' clients, not by peers", "endorsements", state(values, endorsers=clients)),
        ("of another chaincode", "transaction", state(values, chaincode="other")),
        ("of a batch, and not of a question", "transaction", state(values, function=b"process")),
        (
            "a value exchanged after it was endorsed",
            "endorsements",
            good.replace(record.content_commitment, forged.content_commitment),
        ),
        (
            "a commitment that its author did not sign",
            "author",
            state({place: same(forged), decided: same(entry)}),
        ),
        ("another version under the key", "state", state({record_key(record_id, 2): same(record)})),
    ]
    return {
        "channel": CHANNEL.name,
        "genesis_sha256_hex": CHANNEL.genesis_sha256.hex(),
        "chaincode": CHAINCODE,
        "members": [
            {
                "msp_id": member.msp_id,
                "ca_pem": member.pem,
                "storage_signing_key": signature.spki(STORAGE[member.msp_id].public_key()).hex(),
            }
            for member in (network.mercy, network.lakeside)
        ],
        "record_id": record_id,
        "version": 1,
        "command_id": command_id,
        "signer": written.signer,
        "author": record.author,
        "record_hex": same(record).hex(),
        "audit_entry_hex": same(entry).hex(),
        "commands_hex": [same(written).hex()],
        "registrations_hex": [same(one).hex() for one in people],
        "cases": [
            {"name": name, "endorsed_state_hex": raw.hex(), "valid": not fails, "fails": fails}
            for name, fails, raw in cases
        ],
        "replicas": _replicas(stored, command_id, written.signer),
    }


def attributes(role: str) -> x509.UnrecognizedExtension:
    """A role as Fabric CA writes it into a certificate."""
    return x509.UnrecognizedExtension(
        ATTRIBUTES_OID, json.dumps({"attrs": {"cbmdhi.role": role}}, separators=(",", ":")).encode()
    )


def _registered(ca: Organisation, who: ec.EllipticCurvePrivateKey, role: str) -> pb.SignedCommand:
    where = address.of_public_key(who.public_key())
    certificate = issue_certificate(ca, where, who.public_key(), attributes(role))
    body = pb.RegisterIdentity(
        address=where,
        role=pb.Role.Value(f"ROLE_{role.upper()}"),
        home_msp=ca.msp_id,
        signing_public_key=signature.spki(who.public_key()),
        hpke_public_key=hpke.public_of(hpke_private(7)),
        enrolment_certificate=certificate.public_bytes(Encoding.DER),
    )
    raw = command.make(body, channel=CHANNEL, now_ms=AT_MS, command_id=uuid(50 if role == "device" else 51))
    return signed(who, raw)


def _replicas(stored: StoredContent, command_id: str, signer: str) -> Vectors:
    contents = replica.contents(
        [(stored.cid, command_id, signer, replica.stated(stored.stored_bytes, stored.writer_key))]
    )
    return {
        "stored_content_hex": same(stored).hex(),
        "contents_hex": contents.hex(),
        "receipts_hex": [same(one).hex() for one in _receipts(stored, hashlib.sha256(contents).digest())],
    }


def _receipts(stored: StoredContent, contents_sha256: bytes) -> Sequence[ReplicaReceipt]:
    made: list[ReplicaReceipt] = []
    for msp, private in STORAGE.items():
        receipt = ReplicaReceipt(
            root_sha256=stored.root_sha256, contents_sha256=contents_sha256, msp=msp, held_at_ms=AT_MS
        )
        message = (
            CHANNEL.genesis_sha256
            + receipt.root_sha256
            + contents_sha256
            + f"{msp}\x00{receipt.held_at_ms}".encode()
        )
        receipt.signature = sign(private, signature.REPLICA, message)
        made.append(receipt)
    return made
