"""Checking a receipt from the user's side: nothing that a service says is believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from cbmdhi.client import Client
from cbmdhi.client.records import Written
from cbmdhi.client.written import contradiction
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import StoredContent
from cbmdhi.errors import MeshError, name_of
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import cid, command, proof
from cbmdhi.protocol.evidence import Checked, ProvenCommand, ProvenVersion


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str


@dataclass
class Verification:
    """All checks of a receipt, in the order in which they were made.

    unchecked  what could not be compared, since it was not given: a sentence for each
    """

    tx_id: str
    command_id: str
    checks: list[Check] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

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


_AT_ONCE = 8

_NOT_SIGNED_HERE = "whether it is what was signed: the signed command was not given"
_NOT_TOLD = "whether the receipt says this verdict: its ids were given, and not what it says"

_GRACE_MS = 3 * 60_000
"""An expired command may still be carried for a minute, by clocks that differ, and a transaction that was
endorsed with it may be ordered for two."""


async def was_never_done(client: Client, signed: pb.SignedCommand) -> bool:
    """Whether what the wallet signed, and a gateway says was not done, was never done and never will be.

    client  at another member than the one that said so. Peers sign what they hold and not what they do not:
            it is the word of both members, good when one of them is honest and its peer is not far behind

    False: it is decided on the channel, and `verify_receipt` says how. Raises MeshError CONFLICT as long as
    it can still be carried, three minutes after its end by this clock; INTEGRITY when the proof that it is
    decided is none.
    """
    header, _ = command.parse(signed)
    if time.time() * 1000 < header.expires_at_ms + _GRACE_MS:
        why = "it can still be carried: ask three minutes after it has expired, or send the same again"
        raise MeshError(code_pb2.CODE_CONFLICT, why)
    try:
        (await client.trail.checked(header.command_id, signed.signer)).command(
            header.command_id, signed.signer
        )
    except MeshError as error:
        if error.code != code_pb2.CODE_NOT_FOUND:
            raise
        return True
    except proof.ProofError as error:
        raise MeshError(code_pb2.CODE_INTEGRITY, f"what it gave as proof is none ({error})") from error
    return False


async def verify_receipt(
    client: Client,
    tx_id: str | None,
    command_id: str,
    signer: str = "",
    *,
    told: Receipt | None = None,
    signed: pb.SignedCommand | None = None,
) -> Verification:
    """Check one receipt against what the members' peers hold.

    Peers of a majority of the members that the wallet pinned sign the committed entry; it names the
    transaction and the hash of the command; the command is signed by its signer's certified key; the verdict;
    for a record the committed version as well, and the CID over the stored bytes.

    tx_id   None when there was no receipt: then any transaction will do, and `Verification.tx_id` names it
    told    the receipt itself: its ids, and that it says what was decided
    signed  the command as it was signed: that it is this one which was decided, and no other

    Without these two `Verification.unchecked` says what was not compared, and the check `verdict` tells what
    was decided: a refusal that stands on the channel is one that passes.
    """
    asked = _Asked(tx_id, command_id, signer, told, signed)
    verification, checked, found = await _committed(client, asked)
    if checked is not None and found is not None:
        version = _check_content(verification, checked, found)
        if version is not None:
            await _check_stored(client, verification, version.record.content)
    return verification


async def verify_receipts(client: Client, receipts: Iterable[Receipt | Written]) -> list[Verification]:
    """Check receipts of streamed records, which are the gateway's word until then; in order.

    As `verify_receipt`, but for the stored bytes: those are checked by whoever reads the record. Each is a
    question to the peers of a majority, a few at a time: for all that an engine wrote, or for a sample of it.

    receipts  what `put`, `put_each` and `send` gave, which knows what was signed: what the peers hold has to
              be that, as the receipt says. A refusal that stands as it was told passes too (`Written.ok` says
              what it is), and what has no receipt does not. Of a receipt alone it is not compared what was
              signed: see `Verification.unchecked`

        verified = await verify_receipts(engine, written)
        assert all(one.ok for one in verified)
    """
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(receipt: Receipt | Written) -> Verification:
        asked = _asked(receipt)
        if asked.told is not None and not asked.told.tx_id:
            nothing = Verification("", asked.command_id)
            nothing.failed("receipt", "there is none of anything committed: send the same again")
            return nothing
        async with places:
            verification, checked, found = await _committed(client, asked)
        if checked is not None and found is not None:
            version = _check_content(verification, checked, found)
            if version is not None and asked.cid not in ("", version.record.content.cid):
                verification.failed("content", "the receipt names another content than is committed")
        return verification

    return await asyncio.gather(*(one(receipt) for receipt in receipts))


@dataclass(frozen=True)
class _Asked:
    """What is to be verified, as far as it is known here."""

    tx_id: str | None
    command_id: str
    signer: str
    told: Receipt | None = None
    signed: pb.SignedCommand | None = None
    cid: str = ""


def _asked(what: Receipt | Written) -> _Asked:
    if isinstance(what, Receipt):
        return _Asked(what.tx_id, what.command_id, what.signer, what)
    told, signed = what.told.receipt, what.signed
    # By what was signed: a receipt may name somebody else's.
    meant = (command.parse(signed)[0].command_id, signed.signer) if signed else (told.command_id, told.signer)
    return _Asked(told.tx_id, *meant, told, signed, what.told.stored.cid)


async def _committed(
    client: Client, asked: _Asked
) -> tuple[Verification, Checked | None, ProvenCommand | None]:
    """What the members' peers hold of the command, None when they hold nothing; raises MeshError."""
    tx_id, command_id, signer = asked.tx_id, asked.command_id, asked.signer
    verification = Verification(tx_id or "", command_id)
    try:
        checked = await client.trail.checked(command_id, signer)
        found = checked.command(command_id, signer)
    except proof.ProofError as error:
        verification.failed(error.check, error.reason)
        return verification, None, None
    except MeshError as error:
        if error.code != code_pb2.CODE_NOT_FOUND:
            raise
        verification.failed("verdict", error.reason)
        return verification, None, None
    verification.passed("endorsements", f"{' and '.join(found.endorsers)}: their peers hold it committed")
    if tx_id is None:
        verification.tx_id = found.entry.tx_id
        verification.passed("transaction", found.entry.tx_id)
    elif found.entry.tx_id == tx_id:
        verification.passed("transaction", "it is the one that the receipt names")
    else:
        verification.failed("transaction", "the command was committed in another transaction")
    _check_signed(verification, found, asked)
    who = found.who
    by = "" if who.in_person else f", by the device {who.signed_by} inside a delegation"
    verification.passed("author", f"signed by {who.author}{by}")
    _check_verdict(verification, found, asked.told)
    return verification, checked, found


def _check_signed(verification: Verification, found: ProvenCommand, asked: _Asked) -> None:
    """That it is this command which was decided, and that the receipt is of it."""
    told, signed, entry = asked.told, asked.signed, found.entry
    ids = entry.command_id, entry.signer
    if told is not None and (told.command_id, told.signer or entry.signer) != ids:
        verification.failed("command", "the receipt is of another command")
    elif told is not None and told.command_sha256 not in (b"", entry.command_sha256):
        verification.failed("command", "the receipt names another command than is committed under its id")
    elif signed is None:
        verification.unchecked.append(_NOT_SIGNED_HERE)
    elif signed.signer == entry.signer and sha256(signed.command).digest() == entry.command_sha256:
        verification.passed("command", "it is the one that was signed here")
    else:
        verification.failed("command", "what is committed under its id is not what was signed here")


def _check_verdict(verification: Verification, found: ProvenCommand, told: Receipt | None) -> None:
    entry = found.entry
    detail = f"{name_of(entry.code)}" + (f": {entry.reason}" if entry.reason else "")
    if told is None:
        verification.unchecked.append(_NOT_TOLD)
        is_plain = entry.code in (code_pb2.CODE_OK, code_pb2.CODE_FORBIDDEN)
        verification.checks.append(Check("verdict", is_plain, detail))
    elif contradiction(told):
        verification.failed("verdict", f"of what was decided ({detail}) the receipt contradicts itself")
    elif told.code != entry.code:
        verification.failed("verdict", f"the receipt says {name_of(told.code)}, and it was decided {detail}")
    elif told.outcome != code_pb2.OUTCOME_COMMITTED:
        verification.failed("verdict", f"{detail}; the receipt says that it is not committed")
    else:
        verification.passed("verdict", detail)


def _check_content(
    verification: Verification, checked: Checked, found: ProvenCommand
) -> ProvenVersion | None:
    body = command.body_of(found.signed)[1]
    if not isinstance(body, pb.PutRecord) or found.entry.code != code_pb2.CODE_OK:
        return None
    try:
        return checked.version(body.record_id, body.version)
    except proof.ProofError as error:
        verification.failed("content", error.reason)
        return None


async def _check_stored(client: Client, verification: Verification, stored: StoredContent) -> None:
    try:
        blob = await client.trail.blob(stored.cid)
        cid.check(stored.cid, blob)
    except (MeshError, cid.HashMismatch, ValueError) as error:
        verification.failed("cid", f"the stored bytes are not what the CID names: {error}")
        return
    verification.passed("cid", f"{len(blob)} stored bytes have the hash in {stored.cid}")
    verification.passed("replicas", f"held by {' and '.join(stored.replicas)}")
