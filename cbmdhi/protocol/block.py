"""Fabric blocks: hashes, signatures and what a transaction of the chaincode holds.

Sources: fabric `protoutil/blockutils.go` (header hash, data hash, what an orderer signs) and
`protoutil/txutils.go`, `proputils.go` (what an endorser signs, the proposal's hash).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from google.protobuf.message import DecodeError

# The package has no type stubs: what comes from it is typed here, once.
_common: Any = common_pb2
_msp: Any = identities_pb2
_chaincode: Any = chaincode_pb2
_proposal: Any = proposal_pb2
_response: Any = proposal_response_pb2
_transaction_protos: Any = transaction_pb2

SIGNATURES = 0
TRANSACTIONS_FILTER = 2
VALID = 0
_NOT_VALIDATED = 254


class MalformedBlock(Exception):
    """The bytes are not a block with the transaction that is looked for."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature with what was signed and by whom."""

    msp_id: str
    certificate_pem: bytes
    message: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """An endorsed chaincode transaction as it stands in a block."""

    tx_id: str
    channel: str
    chaincode: str
    timestamp_ms: int
    validation_code: int
    creator: Signed
    endorsements: tuple[Signed, ...]
    nonce: bytes
    creator_bytes: bytes
    proposal_hash: bytes
    expected_proposal_hash: bytes
    arguments: tuple[bytes, ...]
    response_status: int
    response_payload: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header."""

    number: int
    previous_hash: bytes
    data_hash: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        """Parse a serialized common.BlockHeader. Raises MalformedBlock."""
        try:
            return cls.of(_common.BlockHeader.FromString(raw))
        except DecodeError as error:
            raise MalformedBlock("the bytes are not a block header") from error

    @classmethod
    def of(cls, header: Any) -> Header:
        """The header of a parsed common.BlockHeader."""
        return cls(header.number, header.previous_hash, header.data_hash)

    @property
    def encoded(self) -> bytes:
        """The DER SEQUENCE of number, previous hash and data hash: what is hashed and what orderers sign."""
        number = self.number.to_bytes(self.number.bit_length() // 8 + 1, "big")
        return _der(0x30, _der(0x02, number) + _der(0x04, self.previous_hash) + _der(0x04, self.data_hash))

    @property
    def hash(self) -> bytes:
        """SHA-256 of `encoded`: what the next block names as its previous hash."""
        return hashlib.sha256(self.encoded).digest()


@dataclass(frozen=True, slots=True)
class Block:
    """A block: header, envelopes, and the metadata that orderers and peer added."""

    header: Header
    envelopes: tuple[bytes, ...]
    metadata: tuple[bytes, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Block:
        """Parse a serialized common.Block. Raises MalformedBlock."""
        try:
            block = _common.Block.FromString(raw)
        except DecodeError as error:
            raise MalformedBlock("the bytes are not a Fabric block") from error
        return cls(Header.of(block.header), tuple(block.data.data), tuple(block.metadata.metadata))

    @property
    def data_hash(self) -> bytes:
        """SHA-256 over the envelopes, joined."""
        return hashlib.sha256(b"".join(self.envelopes)).digest()

    def orderer_signatures(self, consenters: Mapping[int, tuple[str, bytes]] | None = None) -> list[Signed]:
        """The orderers' signatures over the header. Raises MalformedBlock.

        consenters  of a BFT channel, whose orderers sign by a number: MSP id and certificate of each
        """
        try:
            metadata = _common.Metadata.FromString(self.metadata[SIGNATURES])
            found = [
                self._orderer_signature(metadata.value, entry, consenters or {})
                for entry in metadata.signatures
            ]
            return [signed for signed in found if signed is not None]
        except (DecodeError, IndexError) as error:
            raise MalformedBlock("the block carries no signature of an orderer") from error

    def _orderer_signature(
        self, value: bytes, entry: Any, consenters: Mapping[int, tuple[str, bytes]]
    ) -> Signed | None:
        if entry.identifier_header:
            number = _common.IdentifierHeader.FromString(entry.identifier_header).identifier
            if number not in consenters:
                return None
            msp_id, certificate = consenters[number]
            message = value + entry.identifier_header + self.header.encoded
            return Signed(msp_id, certificate, message, entry.signature)
        header = _common.SignatureHeader.FromString(entry.signature_header)
        identity = _msp.SerializedIdentity.FromString(header.creator)
        message = value + entry.signature_header + self.header.encoded
        return Signed(identity.mspid, identity.id_bytes, message, entry.signature)


def find_transaction(block: Block, tx_id: str) -> Transaction:
    """The transaction of that id: the valid one, if any; else the first. Raises MalformedBlock.

    Anybody who may write to the channel can put an envelope under another's id, or rubbish, into a block.
    Peers mark it invalid; but what comes first is what they show of the id.
    """
    try:
        found = list(_bearing(block, tx_id))
        if not found:
            raise MalformedBlock("the block does not hold that transaction")
        return _transaction(*min(found, key=lambda one: one[-1] != VALID))
    except (DecodeError, IndexError) as error:
        raise MalformedBlock("the bytes are not a Fabric block") from error


def codes_of(block: Block, tx_id: str) -> list[int]:
    """What the peer that gave the block found of each envelope that bears the id. Raises MalformedBlock."""
    try:
        return [code for *_, code in _bearing(block, tx_id)]
    except IndexError as error:
        raise MalformedBlock("the block does not say what of it is valid") from error


def _bearing(block: Block, tx_id: str) -> Iterator[tuple[Any, Any, Any, int]]:
    flags = block.metadata[TRANSACTIONS_FILTER]
    for index, data in enumerate(block.envelopes):
        try:
            envelope = _common.Envelope.FromString(data)
            payload = _common.Payload.FromString(envelope.payload)
            channel_header = _common.ChannelHeader.FromString(payload.header.channel_header)
        except DecodeError:
            continue
        if channel_header.tx_id == tx_id:
            yield envelope, payload, channel_header, flags[index]


def endorsed(payload: bytes) -> Transaction:
    """A call of the chaincode that peers endorsed and nobody ordered, from a serialized common.Payload.

    Nobody signed it but its endorsers. Raises MalformedBlock.
    """
    try:
        parsed = _common.Payload.FromString(payload)
        channel_header = _common.ChannelHeader.FromString(parsed.header.channel_header)
        return _transaction(_common.Envelope(payload=payload), parsed, channel_header, _NOT_VALIDATED)
    except (DecodeError, IndexError) as error:
        raise MalformedBlock("the bytes are not an endorsed call") from error


def _transaction(
    envelope: Any,
    payload: Any,
    channel_header: Any,
    validation_code: int,
) -> Transaction:
    if channel_header.type != _common.ENDORSER_TRANSACTION:
        raise MalformedBlock("that transaction is not one of a chaincode")
    signature_header = _common.SignatureHeader.FromString(payload.header.signature_header)
    creator = _msp.SerializedIdentity.FromString(signature_header.creator)
    actions = _transaction_protos.Transaction.FromString(payload.data).actions
    if len(actions) != 1:
        raise MalformedBlock("the transaction does not have exactly one action")
    action = _transaction_protos.ChaincodeActionPayload.FromString(actions[0].payload)
    response_bytes = action.action.proposal_response_payload
    response = _response.ProposalResponsePayload.FromString(response_bytes)
    chaincode_action = _proposal.ChaincodeAction.FromString(response.extension)
    proposal = _proposal.ChaincodeProposalPayload.FromString(action.chaincode_proposal_payload)
    invocation = _chaincode.ChaincodeInvocationSpec.FromString(proposal.input)
    hashed = (
        payload.header.channel_header + payload.header.signature_header + action.chaincode_proposal_payload
    )
    timestamp = channel_header.timestamp
    return Transaction(
        tx_id=channel_header.tx_id,
        channel=channel_header.channel_id,
        chaincode=chaincode_action.chaincode_id.name,
        timestamp_ms=timestamp.seconds * 1000 + timestamp.nanos // 1_000_000,
        validation_code=validation_code,
        creator=Signed(creator.mspid, creator.id_bytes, envelope.payload, envelope.signature),
        endorsements=tuple(_endorsement(response_bytes, entry) for entry in action.action.endorsements),
        nonce=signature_header.nonce,
        creator_bytes=signature_header.creator,
        proposal_hash=response.proposal_hash,
        expected_proposal_hash=hashlib.sha256(hashed).digest(),
        arguments=tuple(invocation.chaincode_spec.input.args),
        response_status=chaincode_action.response.status,
        response_payload=chaincode_action.response.payload,
    )


def _endorsement(response_bytes: bytes, entry: Any) -> Signed:
    identity = _msp.SerializedIdentity.FromString(entry.endorser)
    return Signed(identity.mspid, identity.id_bytes, response_bytes + entry.endorser, entry.signature)


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
