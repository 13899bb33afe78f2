"""Proof that a verdict stands in a block, or a value in the state, for whoever would check and not believe.

A block is worth what its signatures say: the orderer's over the header, the members' over the result, and
the hash that links it to the block before. A value of the state is worth what the members' peers sign when
they are asked for it: a majority of them holds it committed as valid, and nothing else is shown for it.
None of it rests on the word of the service that gave it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError

from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import Batch, BatchItem, BatchResult, Query, QueryResult, Verdict
from cbmdhi.protocol import block as blocks
from cbmdhi.protocol import certificates, command
from cbmdhi.protocol.block import Block, Header
from cbmdhi.protocol.consortium import Consortium

PROCESS = b"process"
QUERY = b"query"


class ProofError(Exception):
    """A check failed. `check` names it: `hash-chain`, `data-hash`, `orderer`, `transaction`, `valid`,
    `creator`, `endorsements`, `verdict`, `state`, `author`."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(f"{check}: {reason}")
        self.check = check
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Trust:
    """Roots that the verifier pinned: PEM of the identity CA of each member and of who orders."""

    channel: str
    chaincode: str
    member_roots: dict[str, str]
    orderer_roots: dict[str, str]
    # Of a BFT channel: MSP id and certificate by consenter id; and how many have to sign a block.
    consenters: Mapping[int, tuple[str, bytes]] = field(default_factory=dict[int, tuple[str, bytes]])
    orderer_quorum: int = 1

    @classmethod
    def of(cls, consortium: Consortium) -> Trust:
        """The trust that follows from a consortium file."""
        roots = {msp_id: member.ca_pem for msp_id, member in consortium.members.items()}
        orderers = {orderer.msp_id: orderer.ca_pem for orderer in consortium.orderers}
        return cls(consortium.channel, consortium.chaincode, roots, orderers)

    @property
    def majority(self) -> int:
        """How many members must have endorsed: more than half."""
        return len(self.member_roots) // 2 + 1


@dataclass(frozen=True)
class VerifiedTransaction:
    """A transaction whose block, endorsements and inputs were checked."""

    tx_id: str
    block_number: int
    valid: bool
    endorsers: tuple[str, ...]
    creator_msp: str
    batch: Batch
    result: BatchResult
    timestamp_ms: int

    @cached_property
    def verdicts(self) -> dict[str, list[tuple[BatchItem, int, Verdict]]]:
        """By command id: the group, the command's place in it, and what was decided."""
        found: dict[str, list[tuple[BatchItem, int, Verdict]]] = {}
        for item, group in zip(self.batch.items, self.result.groups, strict=True):
            # A refused group may have no verdict for each of its commands.
            pairs = zip(item.group.commands, group.verdicts, strict=False)
            for index, (_, verdict) in enumerate(pairs):
                found.setdefault(verdict.command_id, []).append((item, index, verdict))
        return found


@dataclass(frozen=True, slots=True)
class VerifiedVerdict:
    """One command of a verified transaction, with what was decided about it."""

    command: SignedCommand
    verdict: Verdict
    item: BatchItem
    index: int


@dataclass(frozen=True, slots=True)
class VerifiedState:
    """Values of state keys as the peers of a majority of the members hold them."""

    values: dict[str, bytes]
    endorsers: tuple[str, ...]


def verify_state(endorsed: bytes, trust: Trust, *, of_member: str = "") -> VerifiedState:
    """Check what peers endorsed as the state of some keys, and for whom they are peers. Raises ProofError.

    of_member  MSP id of the member whose word is enough, where no majority is to be had; empty: a majority

    `endorsed` is a serialized common.Payload: a call of `query` that was endorsed and never ordered. It says
    what was committed when it was asked for, not that it still is: ask for what does not change.
    """
    try:
        call = blocks.endorsed(endorsed)
    except blocks.MalformedBlock as error:
        raise ProofError("state", str(error)) from error
    _check_call(call, QUERY, trust)
    endorsers = _one(call, trust, of_member) if of_member else _majority(call, trust)
    try:
        query = Query.FromString(call.arguments[1])
        result = QueryResult.FromString(call.response_payload)
    except DecodeError as error:
        raise ProofError("state", "question or answer are not those of the chaincode") from error
    keys = query.get_keys.keys
    if len(keys) != len(result.values):
        raise ProofError("state", "the answer has not one value for each key")
    return VerifiedState(dict(zip(keys, result.values, strict=True)), endorsers)


def verify_transaction(
    block: bytes, previous_header: bytes | None, tx_id: str, trust: Trust, next_header: bytes = b""
) -> VerifiedTransaction:
    """Check a block and one transaction of our chaincode in it. Raises ProofError.

    `block` is a serialized common.Block, the headers are serialized common.BlockHeader; None when the block
    comes from the verifier's own peer, which has linked it. `valid` says what the peer that gave the block
    recorded: the validation flag is signed by nobody, so ask the own peer for it.
    """
    parsed = _parse_block(block)
    _check_chain(parsed, previous_header, next_header)
    if parsed.data_hash != parsed.header.data_hash:
        raise ProofError("data-hash", "the block's content is not what its header names")
    transaction = _find(parsed, tx_id)
    _check_orderer(parsed, transaction.timestamp_ms, trust)
    _check_transaction(transaction, trust)
    endorsers = _majority(transaction, trust)
    try:
        batch, result = (
            Batch.FromString(transaction.arguments[1]),
            BatchResult.FromString(transaction.response_payload),
        )
    except DecodeError as error:
        raise ProofError("transaction", "input or answer are not those of the chaincode") from error
    if len(batch.items) != len(result.groups):
        raise ProofError("transaction", "the answer has not one entry for each group")
    return VerifiedTransaction(
        tx_id=tx_id,
        block_number=parsed.header.number,
        valid=transaction.validation_code == blocks.VALID,
        endorsers=endorsers,
        creator_msp=transaction.creator.msp_id,
        batch=batch,
        result=result,
        timestamp_ms=transaction.timestamp_ms,
    )


def find_verdict(
    verified: VerifiedTransaction, command_id: str, signer: str | None = None
) -> VerifiedVerdict:
    """The verdict about a command in a verified transaction. Raises ProofError.

    A command id belongs to its signer: name the signer wherever somebody else's command under the same id
    would do harm.
    """
    for item, index, verdict in verified.verdicts.get(command_id, ()):
        signed = item.group.commands[index]
        if signer not in (None, signed.signer):
            continue
        try:
            parsed, _ = command.parse(signed)
        except command.MalformedCommand as error:
            raise ProofError("verdict", "the command in the block is malformed") from error
        if parsed.command_id == command_id:
            return VerifiedVerdict(signed, verdict, item, index)
    raise ProofError("verdict", "the transaction holds no verdict about that command")


def _parse_block(block: bytes) -> Block:
    try:
        return Block.parse(block)
    except blocks.MalformedBlock as error:
        raise ProofError("transaction", str(error)) from error


def _check_chain(block: Block, previous_header: bytes | None, next_header: bytes) -> None:
    try:
        if block.header.number > 0 and previous_header is not None:
            previous = Header.parse(previous_header)
            if previous.number != block.header.number - 1 or previous.hash != block.header.previous_hash:
                raise ProofError("hash-chain", "the block does not follow from the one before it")
        if next_header:
            following = Header.parse(next_header)
            if following.number != block.header.number + 1 or following.previous_hash != block.header.hash:
                raise ProofError("hash-chain", "the next block does not follow from this one")
    except blocks.MalformedBlock as error:
        raise ProofError("hash-chain", str(error)) from error


def _find(block: Block, tx_id: str) -> blocks.Transaction:
    try:
        return blocks.find_transaction(block, tx_id)
    except blocks.MalformedBlock as error:
        raise ProofError("transaction", str(error)) from error


def _check_orderer(block: Block, at_ms: int, trust: Trust) -> None:
    try:
        signatures = block.orderer_signatures(trust.consenters)
    except blocks.MalformedBlock as error:
        raise ProofError("orderer", str(error)) from error
    holding: set[bytes] = set()
    for signed in signatures:
        roots = trust.orderer_roots.get(signed.msp_id)
        if roots is None or (trust.consenters and not _is_consenter(signed, trust)):
            continue
        if signed.certificate_pem not in holding and _holds(signed, roots, at_ms, "orderer"):
            holding.add(signed.certificate_pem)
            if len(holding) >= trust.orderer_quorum:
                return
    raise ProofError(
        "orderer",
        f"{len(holding)} orderers of the consortium signed the block, {trust.orderer_quorum} are needed",
    )


def _is_consenter(signed: blocks.Signed, trust: Trust) -> bool:
    return (signed.msp_id, signed.certificate_pem) in trust.consenters.values()


def _check_transaction(transaction: blocks.Transaction, trust: Trust) -> None:
    _check_call(transaction, PROCESS, trust)
    creator = transaction.creator
    roots = trust.member_roots.get(creator.msp_id)
    if roots is None or not _holds(creator, roots, transaction.timestamp_ms, None):
        raise ProofError("creator", "no member's identity signed the transaction")


def _check_call(call: blocks.Transaction, function: bytes, trust: Trust) -> None:
    """That it is a call of that function of our chaincode, and that its answer is an answer to it."""
    if call.channel != trust.channel or call.chaincode != trust.chaincode:
        raise ProofError("transaction", "it belongs to another channel or chaincode")
    if hashlib.sha256(call.nonce + call.creator_bytes).hexdigest() != call.tx_id:
        raise ProofError("transaction", "its id does not follow from nonce and creator")
    if call.response_status != 200 or len(call.arguments) != 2 or call.arguments[0] != function:
        raise ProofError("transaction", f"it is not a call of {function.decode()} that was answered")
    if call.proposal_hash != call.expected_proposal_hash:
        raise ProofError("transaction", "what was endorsed is not what was proposed")


def _majority(call: blocks.Transaction, trust: Trust) -> tuple[str, ...]:
    endorsers = _endorsers(call, trust)
    if len(endorsers) < trust.majority:
        members = "1 member" if len(endorsers) == 1 else f"{len(endorsers)} members"
        raise ProofError(
            "endorsements",
            f"{members} endorsed, {trust.majority} of {len(trust.member_roots)} are needed",
        )
    return endorsers


def _one(call: blocks.Transaction, trust: Trust, member: str) -> tuple[str, ...]:
    if member not in _endorsers(call, trust):
        raise ProofError("endorsements", "the member's own peer has not endorsed it")
    return (member,)


def _endorsers(transaction: blocks.Transaction, trust: Trust) -> tuple[str, ...]:
    found = {
        signed.msp_id
        for signed in transaction.endorsements
        if signed.msp_id in trust.member_roots
        and _holds(signed, trust.member_roots[signed.msp_id], transaction.timestamp_ms, "peer")
    }
    return tuple(sorted(found))


def _holds(signed: blocks.Signed, roots_pem: str, at_ms: int, unit: str | None) -> bool:
    try:
        certificate = certificates.parse_pem(signed.certificate_pem)
        certificates.check_issued(certificate, roots_pem, at_ms=at_ms, unit=unit)
        key = certificates.public_key(certificate)
        key.verify(signed.signature, signed.message, ec.ECDSA(hashes.SHA256()))
    except (ValueError, certificates.Untrusted, InvalidSignature):
        return False
    return True
