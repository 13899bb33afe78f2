"""One transaction through a peer's Gateway service: endorse, submit, wait for the commit.

For the one transaction that makes the channel ready. Services have a client of their own
(fabric_gateway), which does this asynchronously, many times a second.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fabric_protos.common import common_pb2 as common_module
from fabric_protos.gateway import gateway_pb2 as gateway_module
from fabric_protos.gateway import gateway_pb2_grpc
from fabric_protos.msp import identities_pb2 as identities_module
from fabric_protos.peer import chaincode_pb2 as chaincode_module
from fabric_protos.peer import proposal_pb2 as proposal_module
from fabric_protos.peer import transaction_pb2 as transaction_module
from grpc_status import rpc_status

from ops.devnet.errors import CommandFailed, NotReady

# The package has no stubs: its classes are made when it is imported.
common_pb2: Any = common_module
gateway_pb2: Any = gateway_module
identities_pb2: Any = identities_module
chaincode_pb2: Any = chaincode_module
proposal_pb2: Any = proposal_module
transaction_pb2: Any = transaction_module

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_AGAIN_SECONDS = 0.3


class Signer:
    """A Fabric identity: MSP id, certificate and private key (PEM)."""

    def __init__(self, msp_id: str, certificate: bytes, key: bytes) -> None:
        loaded = load_pem_private_key(key, password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise CommandFailed(f"The key of {msp_id}'s administrator is not an EC key.")
        self._key = loaded
        self.creator = identities_pb2.SerializedIdentity(
            mspid=msp_id, id_bytes=certificate
        ).SerializeToString()

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256, with the low s that Fabric asks for."""
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return encode_dss_signature(r, min(s, _P256_ORDER - s))


@dataclass(frozen=True)
class _Proposal:
    transaction_id: str
    content: bytes


def submit(
    *,
    address: str,
    tls_root: bytes,
    signer: Signer,
    channel: str,
    chaincode: str,
    arguments: Sequence[bytes],
    endorsing_msp_ids: Sequence[str],
    seconds: float,
) -> None:
    """Endorse by every named member, order, and wait until it is committed as valid.

    While the peers still get to know one another, endorsement is tried again until `seconds` are over.

    Raises:
        NotReady: the members did not endorse in time; says what each answered.
        CommandFailed: the transaction was not committed, or committed as invalid.
    """
    deadline = time.monotonic() + seconds
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(tls_root)) as connection:
        gateway = gateway_pb2_grpc.GatewayStub(connection)
        while True:
            proposal = _propose(signer, channel, chaincode, arguments)
            try:
                endorsed = gateway.Endorse(
                    gateway_pb2.EndorseRequest(
                        transaction_id=proposal.transaction_id,
                        channel_id=channel,
                        proposed_transaction=proposal_pb2.SignedProposal(
                            proposal_bytes=proposal.content, signature=signer.sign(proposal.content)
                        ),
                        endorsing_organizations=endorsing_msp_ids,
                    ),
                    timeout=max(deadline - time.monotonic(), 1),
                )
                break
            except grpc.RpcError as exc:
                if time.monotonic() >= deadline:
                    raise NotReady(f"The members' peers did not endorse in time: {_told(exc)}") from exc
                time.sleep(_AGAIN_SECONDS)
        transaction = endorsed.prepared_transaction
        transaction.signature = signer.sign(transaction.payload)
        remaining = max(deadline - time.monotonic(), 5)
        try:
            gateway.Submit(
                gateway_pb2.SubmitRequest(
                    transaction_id=proposal.transaction_id,
                    channel_id=channel,
                    prepared_transaction=transaction,
                ),
                timeout=remaining,
            )
            request = gateway_pb2.CommitStatusRequest(
                transaction_id=proposal.transaction_id, channel_id=channel, identity=signer.creator
            ).SerializeToString()
            status = gateway.CommitStatus(
                gateway_pb2.SignedCommitStatusRequest(request=request, signature=signer.sign(request)),
                timeout=remaining,
            )
        except grpc.RpcError as exc:
            raise CommandFailed(f"The transaction was not committed: {_told(exc)}") from exc
    if status.result != transaction_pb2.VALID:
        raise CommandFailed(
            f"The transaction was committed as {transaction_pb2.TxValidationCode.Name(status.result)}."
        )


def _propose(signer: Signer, channel: str, chaincode: str, arguments: Sequence[bytes]) -> _Proposal:
    nonce = os.urandom(24)
    transaction_id = hashlib.sha256(nonce + signer.creator).hexdigest()
    called = chaincode_pb2.ChaincodeID(name=chaincode)
    channel_header = common_pb2.ChannelHeader(
        type=common_pb2.ENDORSER_TRANSACTION,
        channel_id=channel,
        tx_id=transaction_id,
        extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id=called).SerializeToString(),
    )
    channel_header.timestamp.GetCurrentTime()
    signature_header = common_pb2.SignatureHeader(creator=signer.creator, nonce=nonce)
    invocation = chaincode_pb2.ChaincodeInvocationSpec(
        chaincode_spec=chaincode_pb2.ChaincodeSpec(
            type=chaincode_pb2.ChaincodeSpec.GOLANG,
            chaincode_id=called,
            input=chaincode_pb2.ChaincodeInput(args=arguments),
        )
    )
    proposal = proposal_pb2.Proposal(
        header=common_pb2.Header(
            channel_header=channel_header.SerializeToString(),
            signature_header=signature_header.SerializeToString(),
        ).SerializeToString(),
        payload=proposal_pb2.ChaincodeProposalPayload(
            input=invocation.SerializeToString()
        ).SerializeToString(),
    )
    return _Proposal(transaction_id, proposal.SerializeToString())


def _told(error: grpc.RpcError) -> str:
    """What the gateway said, with what each endorser said to it."""
    if not isinstance(error, grpc.Call):
        return str(error)
    details = [str(error.details())]
    status = rpc_status.from_call(error)
    for packed in status.details if status else []:
        detail = gateway_pb2.ErrorDetail()
        if packed.Unpack(detail):
            details.append(f"{detail.msp_id} ({detail.address}): {detail.message}")
    return "; ".join(details)
