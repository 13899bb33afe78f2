"""Checking a receipt from the user's side: nothing that a service says is believed."""

from __future__ import annotations

from dataclasses import dataclass, field

from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import StoredContent
from cbmdhi.errors import MeshError, name_of
from cbmdhi.protocol import cid, command, proof
from cbmdhi.protocol.evidence import Checked, ProvenCommand


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
    """Check one receipt against what the members' peers hold.

    Peers of a majority of the members that the wallet pinned sign the committed entry; it names the
    transaction and the hash of the command; the command is signed by its signer's certified key; the verdict;
    for a record the committed version as well, and the CID over the stored bytes.
    """
    verification = Verification(tx_id, command_id)
    try:
        consortium = client.wallet.consortium
        evidence = await client.trail.evidence(command_id, signer)
        checked = Checked(evidence, proof.Trust.of(consortium), consortium.signed_channel)
        found = checked.command(command_id, signer)
    except proof.ProofError as error:
        verification.failed(error.check, error.reason)
        return verification
    except MeshError as error:
        if error.code != code_pb2.CODE_NOT_FOUND:
            raise
        verification.failed("verdict", error.reason)
        return verification
    verification.passed("endorsements", f"{' and '.join(found.endorsers)}: their peers hold it committed")
    if found.entry.tx_id == tx_id:
        verification.passed("transaction", "it is the one that the receipt names")
    else:
        verification.failed("transaction", "the command was committed in another transaction")
    who = found.who
    by = "" if who.in_person else f", by the device {who.signed_by} inside a delegation"
    verification.passed("author", f"signed by {who.author}{by}")
    _check_verdict(verification, found)
    await _check_content(client, verification, checked, found)
    return verification


def _check_verdict(verification: Verification, found: ProvenCommand) -> None:
    entry = found.entry
    detail = f"{name_of(entry.code)}" + (f": {entry.reason}" if entry.reason else "")
    if entry.code in (code_pb2.CODE_OK, code_pb2.CODE_FORBIDDEN):
        verification.passed("verdict", detail)
    else:
        verification.failed("verdict", detail)


async def _check_content(
    client: Client, verification: Verification, checked: Checked, found: ProvenCommand
) -> None:
    body = command.body_of(found.signed)[1]
    if not isinstance(body, pb.PutRecord) or found.entry.code != code_pb2.CODE_OK:
        return
    try:
        version = checked.version(body.record_id, body.version)
    except proof.ProofError as error:
        verification.failed("content", error.reason)
        return
    await _check_stored(client, verification, version.record.content)


async def _check_stored(client: Client, verification: Verification, stored: StoredContent) -> None:
    try:
        blob = await client.trail.blob(stored.cid)
        cid.check(stored.cid, blob)
    except (MeshError, cid.HashMismatch, ValueError) as error:
        verification.failed("cid", f"the stored bytes are not what the CID names: {error}")
        return
    verification.passed("cid", f"{len(blob)} stored bytes have the hash in {stored.cid}")
    verification.passed("replicas", f"held by {' and '.join(stored.replicas)}")
