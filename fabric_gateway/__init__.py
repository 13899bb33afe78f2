"""A client of the Hyperledger Fabric Gateway (Fabric 2.4 and later), asynchronous, over the official protos.

    channel = open_channel("peer.example:7051", tls_ca_pem)
    identity, signer = load("MercyMSP", certificate_pem, key_pem)
    network = Gateway(channel, identity, signer).network("cbmdhi")
    answer = await network.contract("cbmdhi").submit("process", batch, organisations=msp_ids)
    async for block in network.blocks(start=0): ...
    async for event in network.chaincode_events("cbmdhi", start=checkpoint): ...

What can go wrong is drawn in `errors`; signing with a
key that is elsewhere is in `transaction`.
"""

from .blocks import (
    DUPLICATE_TXID,
    MVCC_READ_CONFLICT,
    PHANTOM_READ_CONFLICT,
    VALID,
    Action,
    Block,
    BlockTransaction,
    ProcessedTransaction,
    Write,
)
from .chaincode_events import ChaincodeEvent
from .checkpoint import Checkpoint, CheckpointFile
from .config import ChannelConfig
from .connection import Deadlines, open_channel
from .errors import (
    BadCheckpoint,
    BlockEventsError,
    ChaincodeEventsError,
    CommitError,
    CommitStatusError,
    EndorseError,
    EvaluateError,
    FabricError,
    MalformedMessage,
    NoSigner,
    PeerFailure,
    StepError,
    SubmitError,
)
from .gateway import Gateway
from .identity import Identity, Signer, load, private_key_signer
from .network import ChainInfo, Contract, Network
from .reconnect import Reconnect
from .transaction import Commit, CommitStatus, Proposal, Transaction

__all__ = [
    "DUPLICATE_TXID",
    "MVCC_READ_CONFLICT",
    "PHANTOM_READ_CONFLICT",
    "VALID",
    "Action",
    "BadCheckpoint",
    "Block",
    "BlockEventsError",
    "BlockTransaction",
    "ChainInfo",
    "ChaincodeEvent",
    "ChaincodeEventsError",
    "ChannelConfig",
    "Checkpoint",
    "CheckpointFile",
    "Commit",
    "CommitError",
    "CommitStatus",
    "CommitStatusError",
    "Contract",
    "Deadlines",
    "EndorseError",
    "EvaluateError",
    "FabricError",
    "Gateway",
    "Identity",
    "MalformedMessage",
    "Network",
    "NoSigner",
    "PeerFailure",
    "ProcessedTransaction",
    "Proposal",
    "Reconnect",
    "Signer",
    "StepError",
    "SubmitError",
    "Transaction",
    "Write",
    "load",
    "open_channel",
    "private_key_signer",
]
