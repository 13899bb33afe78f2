"""The published vectors are what our code makes and takes: when it changes, they do not hold any more.

`chaincode/vectors` checks the same files with nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.client.connection import Connection
from cbmdhi.client.opened import content_of
from cbmdhi.client.registration import Registration
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.call_pb2 import SignedCall
from cbmdhi.command.v1.state_pb2 import (
    IDENTITY_STATUS_ACTIVE,
    AuditEntry,
    IdentityDocument,
    RecordVersion,
    ReplicaReceipt,
    StoredContent,
)
from cbmdhi.errors import MeshError as ClientError
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Evidence
from cbmdhi.notify.v1.notify_pb2 import AcknowledgeRequest
from cbmdhi.protocol import (
    authorship,
    broken_glass,
    call,
    cid,
    command,
    envelope,
    hpke,
    released,
    replica,
    signature,
)
from cbmdhi.protocol.binding import bind
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.evidence import Checked
from cbmdhi.protocol.proof import ProofError, Trust
from cbmdhi.storage.v1.storage_pb2 import OpenResponse
from cbmdhi.wallet import Wallet
from services.gateway.domain import dpop
from services.runtime.caller_signature import CallerSignature
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused
from services.runtime.sqlite import Database
from services.storage.vault import Vault
from tests.support.fakes.asking_gateway import Gateway
from tests.vectors import generate
from tests.vectors.fixed import key

COMMANDS, SEALING, SESSIONS, EVIDENCE, RELEASE = (
    generate.read(f"{name}.json") for name in ("commands", "sealing", "sessions", "evidence", "release")
)
SEALED = {entry["label"]: entry for entry in SEALING["hpke"]["sealed"]}


def raw(vector: dict[str, Any], name: str) -> bytes:
    """A field in hex."""
    return bytes.fromhex(vector[f"{name}_hex"])


def private_key(whose: str) -> bytes:
    return raw(SEALING["hpke"]["keys"][whose], "private_key")


@pytest.mark.parametrize("name", generate.FILES)
def test_the_files_are_what_the_code_makes(name: str) -> None:
    assert generate.FILES[name](generate.read(name)) == generate.read(name), "run `make vectors`"


def test_what_is_sealed_anew_is_not_what_the_file_holds() -> None:
    """Else the test above would take whatever the code seals, and find it equal."""
    made = generate.FILES["sealing.json"]({})
    assert [one["sealed_hex"] for one in made["hpke"]["sealed"]] != [
        one["sealed_hex"] for one in SEALING["hpke"]["sealed"]
    ]


def test_a_device_means_what_its_delegator_lets_it() -> None:
    vector = next(one for one in COMMANDS["commands"] if "delegation" in one)
    within = vector["delegation"]
    signed = pb.SignedCommand(
        command=raw(vector, "command"),
        signature=raw(vector, "signature"),
        signer=vector["address"],
        delegation=pb.SignedDelegation(
            delegation=raw(within, "delegation"), signature=raw(within, "signature")
        ),
    )
    delegator = authorship.claimed(signed).author
    keys = {vector["address"]: raw(vector, "public_key_spki"), delegator: raw(within, "delegator_spki")}
    assert authorship.check(signed, keys).signed_by == vector["address"]


def test_parts_are_bound_by_their_lengths() -> None:
    for vector in SEALING["bind"]:
        assert bind(*vector["parts"]) == raw(vector, "bound")


def test_blocks_have_their_cids() -> None:
    for vector in SEALING["cids"]:
        cid.check(vector["cid"], raw(vector, "block"))
        if "links" in vector:
            assert [cid.from_bytes(link) for link in cid.links(raw(vector, "block"))] == vector["links"]


@pytest.mark.parametrize("vector", SEALING["hpke"]["sealed"], ids=lambda vector: vector["label"])
def test_what_is_sealed_opens_under_its_label_and_binding_alone(vector: dict[str, Any]) -> None:
    private, sealed, binding = private_key(vector["to"]), raw(vector, "sealed"), vector["bound_to"]
    assert hpke.open(private, sealed, vector["label"], *binding) == raw(vector, "plain")
    for label, bound in ((vector["label"] + "x", binding), (vector["label"], [*binding, ""])):
        with pytest.raises(hpke.CannotOpen):
            hpke.open(private, sealed, label, *bound)


async def test_a_custodian_opens_the_keys(tmp_path: Path) -> None:
    """By the code that does it: that says in which order a key is bound."""
    record_key, writer_key = SEALED[hpke.RECORD_KEY], SEALED[hpke.WRITER_KEY]
    patient, writer, key_id = writer_key["bound_to"]
    database = cast(Database, SimpleNamespace())
    vault = Vault(database, tmp_path / "vault.sqlite", writer, private_key("vault"))
    opened = vault.open_as_custodian(
        patient, raw(record_key, "sealed"), writer, key_id, raw(writer_key, "sealed")
    )
    assert opened == raw(SEALING["envelopes"][0], "writer_key")


def test_a_reader_opens_what_was_released() -> None:
    vector, sealed = SEALING["envelopes"][0], SEALED[hpke.DATA_KEY]
    reader, command_id, record_id, _ = sealed["bound_to"]
    record = RecordVersion(
        record_id=record_id,
        version=vector["version"],
        patient=vector["patient"],
        content=StoredContent(cid=vector["cid"]),
        content_commitment=raw(vector, "content_commitment"),
    )
    found = released.open_released(
        record,
        [raw(vector, "root_block")],
        raw(sealed, "sealed"),
        released.Recipient(reader, private_key("reader"), command_id),
    )
    assert found == raw(vector, "content")


DOES_NOT_OPEN = {
    "root-cid": "released does not open",
    "chunk-cid": "not those that the envelope names",
    "commitment": "not what its author committed to",
    "resource": "the content is not its record's",
}
"""What our code says of content that fails by a check."""


@pytest.mark.parametrize("vector", SEALING["released"], ids=lambda vector: vector["name"])
def test_what_was_released_is_shown_when_it_is_the_records_alone(vector: dict[str, Any]) -> None:
    place, sealed = SEALING["envelopes"][0], SEALED[hpke.DATA_KEY]
    reader, command_id, record_id, _ = sealed["bound_to"]
    record = RecordVersion(
        record_id=record_id,
        version=place["version"],
        patient=place["patient"],
        category="observations",
        content=StoredContent(cid=vector["cid"]),
        content_commitment=raw(vector, "content_commitment"),
    )
    blocks = [bytes.fromhex(block) for block in vector["blocks_hex"]]
    opened = OpenResponse(blocks=blocks, sealed_data_key=raw(sealed, "sealed"))
    who = released.Recipient(reader, private_key("reader"), command_id)
    if not vector["check"]:
        assert content_of(record, record.patient, opened, who) == raw(place, "content")
        return
    with pytest.raises(ClientError) as caught:
        content_of(record, record.patient, opened, who)
    assert DOES_NOT_OPEN[vector["check"]] in caught.value.reason


def test_a_reviewer_opens_the_evidence_of_a_registration() -> None:
    vector = SEALING["registration_evidence"]
    wallet = SimpleNamespace(address=vector["reviewer"], hpke_private=private_key("reviewer"))
    registration = Registration(cast(Connection, SimpleNamespace(wallet=wallet)))
    identity = IdentityDocument(address=vector["patient"], evidence_cid=vector["evidence_cid"])
    found = registration._open_evidence(identity, raw(vector, "sealed_evidence"))
    assert found == json.loads(raw(vector, "plain"))
    assert identity_pb2.SealedEvidence.FromString(raw(vector, "sealed_evidence")).keys


def test_a_reviewer_opens_the_reason_of_a_broken_glass() -> None:
    vector = SEALED[hpke.BREAK_GLASS_REASON]
    reviewer, clinician, patient, record_id, version, command_id = vector["bound_to"]
    body = pb.BreakGlass(patient=patient, record_id=record_id, version=int(version))
    body.sealed_reasons.add(reviewer=reviewer, sealed=raw(vector, "sealed"))
    signer = command.KeySigner(key(1005))
    assert signer.address == clinician
    channel = Channel(COMMANDS["channel"], raw(COMMANDS, "genesis_sha256"))
    signed = signer.sign_command(command.make(body, channel=channel, command_id=command_id))
    spki = signature.spki(signer.private_key.public_key())
    opened = broken_glass.open_for(reviewer, private_key("reviewer"), signed, clinician, spki)
    assert opened.reason == "unconscious"


@pytest.mark.parametrize("vector", SEALING["envelopes"], ids=lambda vector: vector["name"])
def test_an_envelope_opens(vector: dict[str, Any]) -> None:
    place = envelope.Binding(vector["patient"], vector["record_id"], vector["version"])
    root = raw(vector, "root_block")
    cid.check(vector["cid"], root)
    header, _ = envelope.header(root)
    assert envelope.unwrap_data_key(header, raw(vector, "writer_key"), place) == raw(vector, "data_key")
    assert envelope.chunk_cids(root) == vector["chunk_cids"]
    if not vector["chunk_cids"]:
        opened = envelope.open([root], raw(vector, "data_key"), place)
        assert (opened.salt, opened.content) == (raw(vector, "salt"), raw(vector, "content"))


def test_a_login_is_bound_to_the_key_of_the_connection_or_of_the_proofs(tmp_path: Path) -> None:
    spki = signature.load_public_key(raw(SESSIONS, "public_key_spki"))
    grpc, rest = SESSIONS["grpc_login"], SESSIONS["rest_login"]
    certificate = x509.load_der_x509_certificate(raw(grpc, "certificate_der"))
    wallet = Wallet(
        folder=tmp_path,
        member="MercyMSP",
        role=pb.ROLE_CLINICIAN,
        private_key=key(1001),
        hpke_private=b"",
        consortium=cast(Any, None),
        certificate_pem=certificate.public_bytes(Encoding.PEM).decode(),
    )
    assert wallet.certificate_thumbprint == grpc["certificate_x5t_s256"]
    for login, binding in ((grpc, grpc["certificate_x5t_s256"]), (rest, rest["dpop_jkt"])):
        signature.verify(
            spki, raw(login, "signature"), signature.LOGIN, raw(SESSIONS, "challenge"), binding.encode()
        )


@pytest.mark.parametrize("bad", SESSIONS["grpc_login"]["bad"], ids=lambda bad: bad["name"])
def test_a_login_that_is_signed_otherwise_is_none(bad: dict[str, Any]) -> None:
    spki = signature.load_public_key(raw(SESSIONS, "public_key_spki"))
    message = raw(SESSIONS, "challenge"), SESSIONS["grpc_login"]["certificate_x5t_s256"].encode()
    with pytest.raises(signature.BadSignature):
        signature.verify(spki, raw(bad, "signature"), signature.LOGIN, *message)


@pytest.mark.parametrize("vector", RELEASE["cases"], ids=lambda vector: vector["name"])
def test_a_key_release_opens_for_its_reader_its_access_and_its_version_alone(vector: dict[str, Any]) -> None:
    record = RecordVersion.FromString(raw(vector, "record"))
    given = OpenResponse.FromString(raw(vector, "open_response"))
    reader = released.Recipient(RELEASE["reader"], raw(RELEASE, "reader_private_key"), RELEASE["command_id"])

    def opened() -> bytes:
        return released.open_released(record, given.blocks, given.sealed_data_key, reader)

    if vector["valid"]:
        assert opened() == raw(RELEASE, "content")
        return
    says = {"data-key": "another key or place", "chunks": "another record or key"}
    with pytest.raises(released.NotAsCommitted, match=says[vector["check"]]):
        opened()


def test_a_call_is_signed_by_who_asks_and_means_the_request_that_it_carries() -> None:
    vector = SESSIONS["call"]
    carrying = AcknowledgeRequest(
        call=SignedCall(
            call=raw(vector, "call"), signature=raw(vector, "signature"), signer=SESSIONS["address"]
        )
    )
    signed, meaning, meant = call.parse(carrying)
    call.verify(signed, raw(SESSIONS, "public_key_spki"))
    assert list(meant.notification_ids) == vector["notification_ids"]
    assert (meaning.msp, meaning.channel) == (vector["msp"], SESSIONS["channel"])
    assert meaning.genesis_sha256.hex() == SESSIONS["genesis_sha256_hex"]


def test_a_delegation_is_signed_by_who_logs_in() -> None:
    vector = SESSIONS["delegation"]
    spki = signature.load_public_key(raw(SESSIONS, "public_key_spki"))
    signature.verify(spki, raw(vector, "signature"), signature.DELEGATION, raw(vector, "delegation"))
    found = pb.Delegation.FromString(raw(vector, "delegation"))
    assert (found.delegator, found.delegate) == (SESSIONS["address"], vector["device"])
    assert hashlib.sha256(raw(vector, "delegation")).hexdigest() == vector["delegation_sha256_hex"]


def test_a_proof_of_a_request_is_taken_for_that_request() -> None:
    vector = SESSIONS["dpop"]

    def verified(method: str) -> dpop.Proof:
        return dpop.verify(
            vector["proof"],
            method=method,
            urls=[vector["url"]],
            token=vector["token"],
            now=vector["issued_at_s"],
        )

    assert verified(vector["method"]).thumbprint == SESSIONS["rest_login"]["dpop_jkt"]
    assert dpop.access_token_hash(vector["token"]) == vector["ath"]
    with pytest.raises(Refused):
        verified("POST")


WORDS = {
    "type": "not one of a chaincode",
    "one-action": "exactly one action",
    "channel": "another channel or chaincode",
    "chaincode": "another channel or chaincode",
    "tx-id": "its id does not follow",
    "status": "not a call of query that was answered",
    "two-arguments": "not a call of query that was answered",
    "query": "not a call of query that was answered",
    "proposal-hash": "not what was proposed",
    "majority": "1 member endorsed",
    "members": "1 member endorsed",
    "peer-root": "1 member endorsed",
    "peer-unit": "0 members endorsed",
    "peer-validity": "1 member endorsed",
    "endorsement-signature": " endorsed, ",
    "as-many-values": "not one value for each key",
    "present": "no such version",
    "asked-for": "another's",
    "put-record": "another's",
    "patient": "another patient's",
    "author": "another author",
    "as-signed": "something else",
    "decided": "no such command",
    "command-sha256": "something else",
    "command-signature": "does not fit the command",
    "command-channel": "for another channel",
    "command-genesis": "for another channel",
    "no-delegation": "within another delegation",
    "delegation-sha256": "within another delegation",
    "delegate": "lets another device act",
    "delegation-channel": "the delegation is for another channel",
    "delegation-genesis": "the delegation is for another channel",
    "delegation-signature": "does not fit the delegation",
    "registered-signer": "another identity's",
    "registered-address": "another identity's",
    "registration-signature": "registration's signature",
    "enrolment-root": "no member's Fabric CA",
    "enrolment-key": "for another key",
    "enrolment-role": "for another role",
}
"""What our code says of evidence that fails by a check."""


def checked(case: dict[str, Any]) -> Checked:
    roots = {member["msp_id"]: member["ca_pem"] for member in EVIDENCE["members"]}
    given = Evidence(
        endorsed_state=raw(case, "endorsed_state"),
        commands=signed({**EVIDENCE, **case}["commands_hex"]),
        registrations=signed({**EVIDENCE, **case}["registrations_hex"]),
    )
    channel = Channel(EVIDENCE["channel"], raw(EVIDENCE, "genesis_sha256"))
    return Checked(given, Trust(channel.name, EVIDENCE["chaincode"], roots, {}), channel)


def signed(several: list[str]) -> Iterator[pb.SignedCommand]:
    return (pb.SignedCommand.FromString(bytes.fromhex(one)) for one in several)


def ask(case: dict[str, Any]) -> None:
    found = checked(case)
    if case["asks"] == "command":
        found.command(EVIDENCE["command_id"], EVIDENCE["signer"])
        return
    record = found.version(EVIDENCE["record_id"], EVIDENCE["version"]).record
    try:
        content_of(record, EVIDENCE["patient"], OpenResponse(), released.Recipient("", b"", ""))
    except ClientError as error:
        raise ProofError("patient", error.reason) from error


def test_evidence_holds() -> None:
    (case,) = (one for one in EVIDENCE["cases"] if one["valid"])
    found = checked(case)
    version = found.version(EVIDENCE["record_id"], EVIDENCE["version"])
    assert version.record == RecordVersion.FromString(raw(EVIDENCE, "record"))
    assert version.record.patient == EVIDENCE["patient"]
    decided = found.command(EVIDENCE["command_id"], EVIDENCE["signer"])
    assert decided.entry == AuditEntry.FromString(raw(EVIDENCE, "audit_entry"))
    assert (decided.who.author, decided.who.signed_by) == (EVIDENCE["author"], EVIDENCE["signer"])


@pytest.mark.parametrize(
    "case", [one for one in EVIDENCE["cases"] if not one["valid"]], ids=lambda case: case["name"]
)
def test_evidence_fails_by_the_check_that_it_names(case: dict[str, Any]) -> None:
    with pytest.raises(ProofError) as caught:
        ask(case)
    assert caught.value.check == case["fails"]
    assert WORDS[case["check"]] in caught.value.reason


def test_each_check_that_a_client_makes_is_named_and_has_a_case() -> None:
    """`chaincode/vectors` leaves each out in turn, and takes the case that fails by it."""
    text = (generate.FOLDER.parents[1] / "docs" / "verification.md").read_text()
    named = set(re.findall(r"\[`([a-z0-9-]+)`\]", text[text.index("## What the peers hold") :]))
    bad = [*EVIDENCE["cases"], *EVIDENCE["replicas"]["bad"], *SEALING["released"]]
    assert named == {case["check"] for case in bad} - {"", "replica-contents"}


REFUSED = {
    "call-signature": code_pb2.CODE_BAD_SIGNATURE,
    "call-channel": code_pb2.CODE_WRONG_CHANNEL,
    "call-genesis": code_pb2.CODE_WRONG_CHANNEL,
    "call-member": code_pb2.CODE_FORBIDDEN,
    "call-type": code_pb2.CODE_INVALID,
    "call-id": code_pb2.CODE_INVALID,
    "call-expiry": code_pb2.CODE_EXPIRED,
    "call-lifetime": code_pb2.CODE_EXPIRED,
    "call-issued": code_pb2.CODE_EXPIRED,
}
"""What a service says of a call that fails by a check."""


class Identities:
    """The ledger's word of who asks."""

    async def identity(self, address: str) -> IdentityDocument:
        return IdentityDocument(
            address=address,
            signing_public_key=raw(SESSIONS, "public_key_spki"),
            status=IDENTITY_STATUS_ACTIVE,
        )


@pytest.mark.parametrize(
    "vector", [SESSIONS["call"], *SESSIONS["call"]["bad"]], ids=lambda one: one.get("check")
)
async def test_a_service_takes_a_call_for_what_it_says_alone(vector: dict[str, Any]) -> None:
    vectors, signer = SESSIONS["call"], SESSIONS["address"]
    channel = Channel(SESSIONS["channel"], raw(SESSIONS, "genesis_sha256"))
    asking = CallerSignature(
        Identities(), channel=channel, msp_id=vectors["msp"], clock=lambda: vectors["taken_at_ms"]
    )
    carrying = AcknowledgeRequest(
        call=SignedCall(call=raw(vector, "call"), signature=raw(vector, "signature"), signer=signer)
    )
    asks = asking.of(carrying, Gateway(vectors["msp"]).says(signer))
    if "check" not in vector:
        assert list((await asks).request.notification_ids) == vectors["notification_ids"]
        return
    with pytest.raises(MeshError) as caught:
        await asks
    assert caught.value.code == REFUSED[vector["check"]]


def test_receipts_of_those_who_hold_a_record() -> None:
    vector = EVIDENCE["replicas"]
    stored = StoredContent.FromString(raw(vector, "stored_content"))
    stated = replica.stated(stored.stored_bytes, stored.writer_key)
    sealed = (stored.cid, EVIDENCE["command_id"], EVIDENCE["signer"], stated)
    assert replica.contents([sealed]) == raw(vector, "contents")
    keys = {one["msp_id"]: bytes.fromhex(one["storage_signing_key"]) for one in EVIDENCE["members"]}
    receipts = [ReplicaReceipt.FromString(bytes.fromhex(one)) for one in vector["receipts_hex"]]
    assert [one.msp for one in receipts] == list(stored.replicas)
    for receipt in receipts:
        assert receipt.contents_sha256 == hashlib.sha256(raw(vector, "contents")).digest()
        replica.verify_receipt(receipt, raw(EVIDENCE, "genesis_sha256"), keys[receipt.msp])


@pytest.mark.parametrize("bad", EVIDENCE["replicas"]["bad"], ids=lambda bad: bad["name"])
def test_a_receipt_that_does_not_hold(bad: dict[str, Any]) -> None:
    """Each by one check: three compare with what was to be stored, the fourth is the signature."""
    keys = {one["msp_id"]: bytes.fromhex(one["storage_signing_key"]) for one in EVIDENCE["members"]}
    stored = StoredContent.FromString(raw(bad, "stored_content"))
    receipt = ReplicaReceipt.FromString(raw(bad, "receipt"))
    contents = hashlib.sha256(raw(EVIDENCE["replicas"], "contents")).digest()
    found = {
        "replica-root": receipt.root_sha256 == stored.root_sha256,
        "replica-contents": receipt.contents_sha256 == contents,
        "replica-member": receipt.msp in stored.replicas,
        "replica-signature": True,
    }
    try:
        replica.verify_receipt(receipt, raw(EVIDENCE, "genesis_sha256"), keys[receipt.msp])
    except signature.BadSignature:
        found["replica-signature"] = False
    assert [check for check, holds in found.items() if not holds] == [bad["check"]]
