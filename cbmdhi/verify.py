"""Checking a receipt from the user's side: nothing that a service says is believed."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import Message

from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import RecordVersion, StoredContent
from cbmdhi.errors import MeshError, name_of
from cbmdhi.protocol import authorship, cid, command, proof


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str


@dataclass
class Verification:
    """All checks of a receipt, in the order in which they were made."""

    tx_id: str
    command_id: str
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when every check passed, and there were some."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def passed(self, name: str, detail: str) -> None:
        """Note a check that passed."""
        self.checks.append(Check(name, True, detail))

    def failed(self, name: str, detail: str) -> None:
        """Note a check that failed."""
        self.checks.append(Check(name, False, detail))


async def verify_receipt(client: Client, tx_id: str, command_id: str, signer: str = "") -> Verification:
    """Check one receipt against its block.

    Block linked by hash to the one before, its content to its header, the orderer's signature, the
    transaction valid, endorsed by members, the command's signature by its signer's key (whose hash is the
    address), the verdict; for a record also the CID over the stored bytes.
    """
    return (await _verify(client, tx_id, command_id, signer))[0]


async def _verify(
    client: Client, tx_id: str, command_id: str, signer: str
) -> tuple[Verification, proof.VerifiedVerdict | None]:
    verification = Verification(tx_id, command_id)
    trust = proof.Trust.of(client.wallet.consortium)
    evidence = await client.trail.proof(tx_id)
    try:
        verified = proof.verify_transaction(
            evidence.block, evidence.previous_header, tx_id, trust, evidence.next_header
        )
        found = proof.find_verdict(verified, command_id, signer or None)
    except proof.ProofError as error:
        verification.failed(error.check, error.reason)
        return verification, None
    number = verified.block_number
    verification.passed("hash-chain", f"block {number} follows block {number - 1} by its hash")
    verification.passed("data-hash", "the block's transactions are those of its header")
    verification.passed("orderer", f"signed by an orderer of {' or '.join(trust.orderer_roots)}")
    if verified.valid:
        verification.passed("valid", "the peer committed the transaction as valid")
    else:
        verification.failed("valid", "the peer marked the transaction as invalid")
    verification.passed("endorsements", f"{' and '.join(verified.endorsers)}: over the same result")
    await _check_author(client, verification, found)
    _check_verdict(verification, found)
    await _check_content(client, verification, found)
    return verification, found


async def author_of(client: Client, record: RecordVersion) -> Verification:
    """Check that the author named by the ledger signed exactly this version's commitment, or that a device
    did inside a delegation that the author signed."""
    verification, found = await _verify(client, record.tx_id, record.command_id, record.signed_by)
    if found is None:
        return verification
    if authorship.claimed(found.command) != authorship.Authorship(record.author, record.signed_by):
        verification.failed("author", "the command is another author's than the ledger's entry says")
    body = _body(found)
    same = isinstance(body, pb.PutRecord) and (
        (body.record_id, body.version, body.patient, body.content_commitment)
        == (record.record_id, record.version, record.patient, record.content_commitment)
    )
    if same:
        verification.passed("commitment", "the author's signed commitment is the one of what was read")
    else:
        verification.failed("commitment", "the author signed another commitment than the ledger's entry")
    return verification


async def _check_author(client: Client, verification: Verification, found: proof.VerifiedVerdict) -> None:
    signed = found.command
    try:
        claimed = authorship.claimed(signed)
        keys = {
            one: (await client.registration.identity(one)).signing_public_key
            for one in {claimed.author, claimed.signed_by}
        }
        who = authorship.check(signed, keys)
    except (MeshError, authorship.NotMeant) as error:
        verification.failed("author", f"who wrote it cannot be shown: {error}")
        return
    by = "" if who.in_person else f", by the device {who.signed_by} inside a delegation"
    verification.passed("author", f"signed by {who.author}{by}")


def _check_verdict(verification: Verification, found: proof.VerifiedVerdict) -> None:
    verdict = found.verdict
    detail = f"{name_of(verdict.code)}" + (f": {verdict.reason}" if verdict.reason else "")
    if verdict.code in (code_pb2.CODE_OK, code_pb2.CODE_FORBIDDEN):
        verification.passed("verdict", detail)
    else:
        verification.failed("verdict", detail)


async def _check_content(client: Client, verification: Verification, found: proof.VerifiedVerdict) -> None:
    body = _body(found)
    if not isinstance(body, pb.PutRecord) or found.verdict.code != code_pb2.CODE_OK:
        return
    stored = next((entry for entry in found.item.contents if entry.command_index == found.index), None)
    if stored is None:
        verification.failed("content", "the transaction does not say where the content lies")
        return
    await _check_stored(client, verification, stored)


async def _check_stored(client: Client, verification: Verification, stored: StoredContent) -> None:
    try:
        blob = await client.trail.blob(stored.cid)
        cid.check(stored.cid, blob)
    except (MeshError, cid.HashMismatch, ValueError) as error:
        verification.failed("cid", f"the stored bytes are not what the CID names: {error}")
        return
    verification.passed("cid", f"{len(blob)} stored bytes have the hash in {stored.cid}")
    verification.passed("replicas", f"held by {' and '.join(stored.replicas)}")


def _body(found: proof.VerifiedVerdict) -> Message | None:
    try:
        return command.body_of(found.command)[1]
    except command.MalformedCommand:
        return None
