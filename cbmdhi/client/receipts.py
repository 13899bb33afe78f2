"""Receipts that were proven: what became of a command is what the members' peers hold, whatever is said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message

from cbmdhi.client.connection import Connection
from cbmdhi.client.trail import Trail
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry
from cbmdhi.errors import MeshError, NotCommitted, UnknownOutcome, Unproven, name_of
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command, proof
from cbmdhi.protocol.evidence import Checked

# Proofs of a group's commands that are asked for at a time.
_AT_ONCE = 8
_UNCERTAIN = (code_pb2.OUTCOME_UNKNOWN, code_pb2.OUTCOME_UNSPECIFIED)


async def of_group(
    connection: Connection, group: Sequence[pb.SignedCommand], told: Sequence[RecordReceipt], again: Message
) -> list[RecordReceipt]:
    """The receipts of a group that was committed, one for each command, once that is proven.

    told   what the gateway says of each. Of an own command's receipt that comes back, its `block` alone is
           its word. Of others' commands in a group that they were done is proven by the own ones, since a
           group is done as a whole or not at all, in one transaction, and each command names all of it: what
           else is said of them (a content, a basis) is left out. A refusal's reason is the gateway's word
           where it is of another's command
    again  the request, as it was sent

    Raises NotCommitted: the channel refused it, which is proven too when its outcome is COMMITTED; that
    nothing was done at all (NOT_DONE) is the gateway's word. Raises UnknownOutcome when the gateway cannot
    tell, and Unproven when it tells and has no proof.
    """
    if len(told) != len(group):
        raise Unproven("the gateway's answer has not one receipt for each command", [again])
    receipts = [entry.receipt for entry in told]
    bad = [receipt for receipt in receipts if receipt.code != code_pb2.CODE_OK]
    for receipt in bad:
        if receipt.outcome in _UNCERTAIN:
            raise UnknownOutcome(MeshError(receipt.code, receipt.reason, receipt.path), [again])
    if not bad or any(receipt.outcome == code_pb2.OUTCOME_COMMITTED for receipt in bad):
        address = connection.wallet.address
        own = [place for place, signed in enumerate(group) if signed.signer == address] or [0]
        places = asyncio.Semaphore(_AT_ONCE)

        async def prove(place: int) -> None:
            async with places:
                await _prove(connection, group[place], told[place], again)

        await asyncio.gather(*(prove(place) for place in own))
        if not bad:
            tx_id = receipts[own[0]].tx_id
            if any(receipts[place].tx_id != tx_id for place in own):
                raise Unproven("its commands are not of one transaction", [again], is_forged=True)
            for place in set(range(len(group))) - set(own):
                _set_as_proven(told[place], group[place], tx_id)
    if bad:
        telling = [receipt for receipt in bad if receipt.code != code_pb2.CODE_GROUP_REFUSED]
        raise NotCommitted((telling or bad)[0])
    return list(told)


def _set_as_proven(told: RecordReceipt, signed: pb.SignedCommand, tx_id: str) -> None:
    """Of another's command in a group that is done: what that proves, and nothing that is merely said."""
    block = told.receipt.block
    told.Clear()
    told.receipt.command_id, told.receipt.signer = command.parse(signed)[0].command_id, signed.signer
    told.receipt.code, told.receipt.outcome = code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED
    told.receipt.tx_id, told.receipt.block = tx_id, block


async def of_command(
    connection: Connection, signed: pb.SignedCommand, told: Receipt, again: Message
) -> Receipt:
    """The same of one command. Raises as `of_group` does."""
    [proven] = await of_group(connection, [signed], [RecordReceipt(receipt=told)], again)
    return proven.receipt


async def held(
    connection: Connection, signed: pb.SignedCommand, again: Message
) -> tuple[AuditEntry, Checked]:
    """What the members' peers hold of a command that was signed here, and the evidence of it.

    Raises Unproven when they hold nothing, or nobody shows what.
    """
    command_id = command.parse(signed)[0].command_id
    try:
        checked = await Trail(connection).checked(command_id, signed.signer)
        found = checked.command(command_id, signed.signer)
    except proof.ProofError as error:
        raise Unproven(f"what it gave as proof is none ({error})", [again], is_forged=True) from error
    except MeshError as error:
        raise Unproven(f"it gave no proof ({error})", [again]) from error
    if found.signed.command != signed.command:
        why = "what is committed under its id is not what was signed here"
        raise Unproven(why, [again], is_forged=True)
    return found.entry, checked


async def _prove(
    connection: Connection, signed: pb.SignedCommand, told: RecordReceipt, again: Message
) -> None:
    """Put into a receipt what the members' peers hold of the command. Raises Unproven."""
    receipt = told.receipt
    entry, checked = await held(connection, signed, again)
    if (entry.code == code_pb2.CODE_OK) != (receipt.code == code_pb2.CODE_OK):
        said = f"it says {name_of(receipt.code)} and the members' peers hold {name_of(entry.code)}"
        raise Unproven(said, [again], is_forged=True)
    receipt.command_id, receipt.signer, receipt.tx_id = entry.command_id, entry.signer, entry.tx_id
    receipt.code, receipt.reason, receipt.path = entry.code, entry.reason, entry.path
    receipt.outcome = code_pb2.OUTCOME_COMMITTED
    receipt.command_sha256 = entry.command_sha256
    receipt.ClearField("basis")
    if entry.HasField("basis"):
        receipt.basis.CopyFrom(entry.basis)
    body = command.body_of(signed)[1]
    if isinstance(body, pb.PutRecord) and entry.code == code_pb2.CODE_OK:
        try:
            version = checked.version(body.record_id, body.version)
        except proof.ProofError as error:
            raise Unproven(f"of the record it gave no proof ({error})", [again], is_forged=True) from error
        told.stored.CopyFrom(version.record.content)
    else:
        told.ClearField("stored")
        told.ClearField("replicas")
