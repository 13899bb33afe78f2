"""After the run: does every receipt stand? A number whose run does not verify is no number."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cbmdhi.client import Client
from cbmdhi.client.records import Prepared
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import GetProofResponse
from cbmdhi.protocol import cid, proof
from cbmdhi.waiting import until


@dataclass
class Checked:
    """What was looked at, and what was wrong."""

    transactions: int = 0
    blobs: int = 0
    decrypted: int = 0
    failures: list[str] = field(default_factory=list)


async def check(
    members: Sequence[Client],
    patients: Mapping[str, Client],
    prepared: Sequence[Prepared],
    receipts: Mapping[str, RecordReceipt],
    sample: int,
) -> Checked:
    """Every transaction valid and endorsed at each member's peer; of a sample, blobs and content.

    members   a client at each member's gateway
    patients  the records' patients by address: they decrypt the sample
    """
    checked = Checked()
    by_transaction: dict[str, list[RecordReceipt]] = {}
    for receipt in receipts.values():
        by_transaction.setdefault(receipt.receipt.tx_id, []).append(receipt)
    for tx_id, entries in by_transaction.items():
        for member in members:
            await _transaction(checked, member, tx_id, entries)
        checked.transactions += 1
    written = [entry for entry in prepared if entry.item.submission_id in receipts]
    for entry in random.Random(0).sample(written, min(sample, len(written))):  # noqa: S311 - not a secret
        receipt = receipts[entry.item.submission_id]
        for member in members:
            await _blob(checked, member, receipt.stored.cid)
        await _content(checked, patients[entry.record.patient], entry)
    return checked


async def _transaction(
    checked: Checked, member: Client, tx_id: str, entries: Sequence[RecordReceipt]
) -> None:
    try:
        found = await until(lambda: _proof(member, tx_id), "the member's peer has the transaction")
        trust = proof.Trust.of(member.wallet.consortium)
        verified = proof.verify_transaction(found.block, found.previous_header, tx_id, trust)
        if not verified.valid:
            checked.failures.append(f"{member.member.name}: a transaction is not valid")
        for entry in entries:
            verdict = proof.find_verdict(verified, entry.receipt.command_id, entry.receipt.signer).verdict
            if verdict.code != code_pb2.CODE_OK:
                checked.failures.append(f"{member.member.name}: a receipt says OK, the block does not")
    except (MeshError, proof.ProofError) as error:
        checked.failures.append(f"{member.member.name}: {error}")


async def _proof(member: Client, tx_id: str) -> GetProofResponse | None:
    try:
        return await member.trail.proof(tx_id)
    except MeshError as error:
        if error.code_name != "NOT_FOUND":
            raise
        return None


async def _blob(checked: Checked, member: Client, name: str) -> None:
    try:
        cid.check(name, await member.trail.blob(name))
        checked.blobs += 1
    except (MeshError, cid.HashMismatch, ValueError) as error:
        checked.failures.append(f"{member.member.name}: a blob is not there as its CID says: {error}")


async def _content(checked: Checked, patient: Client, entry: Prepared) -> None:
    record = entry.record
    try:
        reading = await patient.records.read(record.patient, record.record_id, record.version, "PATRQT")
        if reading.content != record.content:
            checked.failures.append("a record does not read as it was written")
        checked.decrypted += 1
    except MeshError as error:
        checked.failures.append(f"a record cannot be read: {error}")
