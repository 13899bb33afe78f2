"""Builds the bytes of a proposal (peer/proposal.proto) as Fabric wants them."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from . import _protos as fabric
from .identity import sha256

_NONCE_BYTES = 24
_NANOSECONDS = 1_000_000_000


def transaction_id_of(nonce: bytes, creator: bytes) -> str:
    """SHA-256(nonce || creator), which peers check."""
    return sha256(nonce + creator).hex()


def proposed_transaction(
    creator: bytes,
    channel: str,
    chaincode: str,
    arguments: Sequence[bytes],
    transient: Mapping[str, bytes],
    organisations: Sequence[str],
) -> Any:
    """A gateway.ProposedTransaction, not signed yet."""
    nonce = os.urandom(_NONCE_BYTES)
    transaction_id = transaction_id_of(nonce, creator)
    chaincode_id = fabric.chaincode.ChaincodeID(name=chaincode)
    header = _header(channel, transaction_id, chaincode_id, creator, nonce)
    payload = fabric.proposal.ChaincodeProposalPayload(
        input=_call(chaincode_id, arguments).SerializeToString(), TransientMap=dict(transient)
    )
    proposal = fabric.proposal.Proposal(
        header=header.SerializeToString(), payload=payload.SerializeToString()
    )
    return fabric.gateway.ProposedTransaction(
        transaction_id=transaction_id,
        proposal=fabric.proposal.SignedProposal(proposal_bytes=proposal.SerializeToString()),
        endorsing_organizations=organisations,
    )


def header(
    kind: int,
    channel: str,
    creator: bytes,
    transaction_id: str = "",
    nonce: bytes = b"",
    extension: bytes = b"",
) -> Any:
    """A common.Header with the time of now."""
    channel_header = fabric.common.ChannelHeader(
        type=kind, channel_id=channel, tx_id=transaction_id, extension=extension
    )
    channel_header.timestamp.seconds, channel_header.timestamp.nanos = divmod(time.time_ns(), _NANOSECONDS)
    signature_header = fabric.common.SignatureHeader(creator=creator, nonce=nonce or os.urandom(_NONCE_BYTES))
    return fabric.common.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=signature_header.SerializeToString(),
    )


def channel_of_proposal(proposal: bytes) -> str:
    return _channel_of(fabric.common.Header.FromString(fabric.proposal.Proposal.FromString(proposal).header))


def channel_of_payload(payload: bytes) -> str:
    return _channel_of(fabric.common.Payload.FromString(payload).header)


def _channel_of(of: Any) -> str:
    return fabric.common.ChannelHeader.FromString(of.channel_header).channel_id


def _header(channel: str, transaction_id: str, chaincode_id: Any, creator: bytes, nonce: bytes) -> Any:
    extension = fabric.proposal.ChaincodeHeaderExtension(chaincode_id=chaincode_id).SerializeToString()
    return header(fabric.common.ENDORSER_TRANSACTION, channel, creator, transaction_id, nonce, extension)


def _call(chaincode_id: Any, arguments: Sequence[bytes]) -> Any:
    return fabric.chaincode.ChaincodeInvocationSpec(
        chaincode_spec=fabric.chaincode.ChaincodeSpec(
            type=fabric.chaincode.ChaincodeSpec.GOLANG,
            chaincode_id=chaincode_id,
            input=fabric.chaincode.ChaincodeInput(args=arguments),
        )
    )
