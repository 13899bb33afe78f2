"""Gateway -> Network -> Contract: the way into a channel through one peer."""

import grpc

from . import _protos as fabric
from .connection import Connection, Deadlines
from .identity import Identity, Signer
from .network import Network
from .transaction import Commit, Proposal, Transaction


class Gateway:
    """A client of one gateway peer. The channel stays the caller's: close it when done.

    signer  None: everything is signed offline, see `transaction`
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        identity: Identity,
        signer: Signer | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._connection = Connection(channel, identity, signer, deadlines or Deadlines())

    def network(self, channel: str) -> Network:
        """A Fabric channel, by name."""
        return Network(self._connection, channel)

    def proposal(self, serialized: bytes) -> Proposal:
        """A proposal that another process made (`Proposal.to_bytes`)."""
        return Proposal(self._connection, fabric.gateway.ProposedTransaction.FromString(serialized))

    def transaction(self, serialized: bytes) -> Transaction:
        """An endorsed transaction from another process (`Transaction.to_bytes`)."""
        return Transaction(self._connection, fabric.gateway.PreparedTransaction.FromString(serialized))

    def commit(self, serialized: bytes) -> Commit:
        """A submitted transaction from another process (`Commit.to_bytes`)."""
        return Commit(self._connection, fabric.gateway.SignedCommitStatusRequest.FromString(serialized))
