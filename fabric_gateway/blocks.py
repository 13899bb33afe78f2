"""Blocks and transactions of Fabric as plain values.

A block holds envelopes; an envelope of type ENDORSER_TRANSACTION nests the call, the answer that was
endorsed and the read-write set. Metadata of the block says which envelopes were found valid.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from . import _protos as fabric
from .errors import MalformedMessage

VALID = 0
MVCC_READ_CONFLICT = 11
PHANTOM_READ_CONFLICT = 12
DUPLICATE_TXID = 9

_NOT_VALIDATED = 254
_NANOSECONDS = 1_000_000


class Write(NamedTuple):
    """One write of the public state. `value` is empty when the key was deleted."""

    namespace: str
    key: str
    value: bytes
    deleted: bool


@dataclass(frozen=True, slots=True)
class Action:
    """What a chaincode answered and what follows from it.

    proposal       serialized ChaincodeProposalPayload: what was asked
    result         payload of the chaincode's response
    writes         public writes of all namespaces, in order
    private        True when private data is written too
    """

    chaincode: str
    proposal: bytes
    status: int
    result: bytes
    writes: tuple[Write, ...]
    private: bool

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """The function and what it was called with. Raises MalformedMessage."""
        proposal = _parse(fabric.proposal.ChaincodeProposalPayload, self.proposal)
        call = _parse(fabric.chaincode.ChaincodeInvocationSpec, proposal.input)
        return tuple(call.chaincode_spec.input.args)


@dataclass(frozen=True, slots=True)
class BlockTransaction:
    """An endorser transaction of a block. `action` is None when it cannot be read (an invalid one)."""

    transaction_id: str
    channel: str
    timestamp_ms: int
    creator_msp_id: str
    validation_code: int
    action: Action | None

    @property
    def valid(self) -> bool:
        return self.validation_code == VALID


@dataclass(frozen=True, slots=True)
class ProcessedTransaction:
    """A transaction alone. `envelope` is the serialized common.Envelope."""

    envelope: bytes
    transaction: BlockTransaction


@dataclass(frozen=True)
class Block:
    """A block. `header` is the serialized common.BlockHeader, `message` the common.Block itself."""

    number: int
    previous_hash: bytes
    header_hash: bytes
    header: bytes
    message: Any
    transactions: tuple[BlockTransaction, ...]

    @cached_property
    def raw(self) -> bytes:
        """The serialized common.Block."""
        return self.message.SerializeToString()


def decode_block(raw: bytes) -> Block:
    """A block from a serialized common.Block. Raises MalformedMessage."""
    return of_message(_parse(fabric.common.Block, raw))


def of_message(block: Any) -> Block:
    """A block from a common.Block. Raises MalformedMessage."""
    return Block(
        number=block.header.number,
        previous_hash=block.header.previous_hash,
        header_hash=hash_of_header(block.header),
        header=block.header.SerializeToString(),
        message=block,
        transactions=tuple(_transactions(block)),
    )


def decode_processed(raw: bytes) -> ProcessedTransaction:
    """From a serialized peer.ProcessedTransaction. Raises MalformedMessage."""
    processed = _parse(fabric.transaction.ProcessedTransaction, raw)
    envelope: bytes = processed.transactionEnvelope.SerializeToString()
    transaction = _transaction(envelope, processed.validationCode)
    if transaction is None:
        raise MalformedMessage("not a transaction of a chaincode")
    return ProcessedTransaction(envelope, transaction)


def hash_of_header(header: Any) -> bytes:
    """The next block's `previous_hash`: SHA-256 over the header in ASN.1 (protoutil.BlockHeaderBytes)."""
    parts = _der_integer(header.number) + _der_octets(header.previous_hash) + _der_octets(header.data_hash)
    return hashlib.sha256(b"\x30" + _der_length(len(parts)) + parts).digest()


def decode_prepared(envelope: Any) -> Action:
    """The endorsed action of an envelope that is about to be submitted. Raises MalformedMessage."""
    return _action(_parse(fabric.common.Payload, envelope.payload).data)


def validation_name(code: int) -> str:
    """The name of a protos.TxValidationCode, such as MVCC_READ_CONFLICT."""
    names = fabric.transaction.TxValidationCode.DESCRIPTOR.values_by_number
    return names[code].name if code in names else f"CODE_{code}"


def _transactions(block: Any) -> Iterator[BlockTransaction]:
    index = fabric.common.TRANSACTIONS_FILTER
    metadata = block.metadata.metadata
    flags: bytes = metadata[index] if len(metadata) > index else b""
    for position, data in enumerate(block.data.data):
        code = flags[position] if position < len(flags) else _NOT_VALIDATED
        try:
            transaction = _transaction(data, code)
        except MalformedMessage:
            # Anybody who may write to the channel can put rubbish into a block; peers mark it invalid.
            if code == VALID:
                raise
            continue
        if transaction is not None:
            yield transaction


def _transaction(data: bytes, code: int) -> BlockTransaction | None:
    payload = _parse(fabric.common.Payload, _parse(fabric.common.Envelope, data).payload)
    header = _parse(fabric.common.ChannelHeader, payload.header.channel_header)
    if header.type != fabric.common.ENDORSER_TRANSACTION:
        return None
    signature_header = _parse(fabric.common.SignatureHeader, payload.header.signature_header)
    creator = _parse(fabric.identities.SerializedIdentity, signature_header.creator)
    return BlockTransaction(
        transaction_id=header.tx_id,
        channel=header.channel_id,
        timestamp_ms=header.timestamp.seconds * 1000 + header.timestamp.nanos // _NANOSECONDS,
        creator_msp_id=creator.mspid,
        validation_code=code,
        action=_action(payload.data) if code == VALID else None,
    )


def _action(transaction: bytes) -> Action:
    actions = _parse(fabric.transaction.Transaction, transaction).actions
    if len(actions) != 1:
        raise MalformedMessage("a transaction has exactly one action")
    payload = _parse(fabric.transaction.ChaincodeActionPayload, actions[0].payload)
    endorsed = payload.action.proposal_response_payload
    response = _parse(fabric.proposal_response.ProposalResponsePayload, endorsed)
    action = _parse(fabric.proposal.ChaincodeAction, response.extension)
    writes, private = _writes(action.results)
    return Action(
        chaincode=action.chaincode_id.name,
        proposal=payload.chaincode_proposal_payload,
        status=action.response.status,
        result=action.response.payload,
        writes=writes,
        private=private,
    )


def _writes(results: bytes) -> tuple[tuple[Write, ...], bool]:
    writes: list[Write] = []
    private = False
    for namespace in _parse(fabric.rwset.TxReadWriteSet, results).ns_rwset:
        name = namespace.namespace
        writes += [
            Write(name, write.key, write.value, write.is_delete)
            for write in _parse(fabric.kv_rwset.KVRWSet, namespace.rwset).writes
        ]
        for collection in namespace.collection_hashed_rwset:
            hashed = _parse(fabric.kv_rwset.HashedRWSet, collection.hashed_rwset)
            private = private or bool(hashed.hashed_writes)
    return tuple(writes), private


def _parse(message: Callable[[], Any], data: bytes) -> Any:
    parsed = message()
    try:
        parsed.ParseFromString(data)
    except DecodeError as exc:
        raise MalformedMessage(f"not a {parsed.DESCRIPTOR.full_name}") from exc
    return parsed


def _der_integer(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + _der_length(len(content)) + content


def _der_octets(value: bytes) -> bytes:
    return b"\x04" + _der_length(len(value)) + value


def _der_length(length: int) -> bytes:
    # Headers hold three short values: never more than 127 bytes in all.
    if length > 127:
        raise MalformedMessage("a block header is longer than it can be")
    return bytes([length])
