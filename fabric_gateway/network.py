"""A Fabric channel and the chaincodes on it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from . import _protos as fabric
from .blocks import Block, ProcessedTransaction, decode_block, decode_processed
from .chaincode_events import ChaincodeEvent, chaincode_events
from .checkpoint import Checkpoint
from .config import ChannelConfig, channel_config
from .connection import Connection
from .deliver import deliver
from .proposal import proposed_transaction
from .reconnect import Reconnect
from .transaction import Commit, Proposal


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """How far a peer has come: `height` blocks, numbered from 0."""

    height: int
    current_block_hash: bytes


class Contract:
    """A chaincode on a channel."""

    def __init__(self, connection: Connection, channel: str, chaincode: str) -> None:
        self._connection = connection
        self._channel = channel
        self._chaincode = chaincode

    def propose(
        self,
        function: str,
        *arguments: bytes | str,
        transient: Mapping[str, bytes] | None = None,
        organisations: Sequence[str] = (),
    ) -> Proposal:
        """A proposal with a new transaction id.

        transient      reaches every endorsing organisation, and no block
        organisations  MSP ids that endorse, or that may evaluate. Empty: the gateway peer finds the
                       endorsers by trial, one after the other
        """
        encoded = [part.encode() if isinstance(part, str) else part for part in (function, *arguments)]
        message = proposed_transaction(
            self._connection.creator, self._channel, self._chaincode, encoded, transient or {}, organisations
        )
        return Proposal(self._connection, message, self._channel)

    async def evaluate(
        self,
        function: str,
        *arguments: bytes | str,
        transient: Mapping[str, bytes] | None = None,
        organisations: Sequence[str] = (),
    ) -> bytes:
        """Ask one peer, record nothing. Raises EvaluateError."""
        proposal = self.propose(function, *arguments, transient=transient, organisations=organisations)
        return await proposal.evaluate()

    async def submit(
        self,
        function: str,
        *arguments: bytes | str,
        transient: Mapping[str, bytes] | None = None,
        organisations: Sequence[str] = (),
    ) -> bytes:
        """The chaincode's answer, once it is committed. Raises an error of a step, or CommitError."""
        proposal = self.propose(function, *arguments, transient=transient, organisations=organisations)
        transaction = await proposal.endorse()
        commit = await transaction.submit()
        await commit.confirm()
        return transaction.result


class Network:
    """A channel, as the gateway peer sees it."""

    def __init__(self, connection: Connection, channel: str) -> None:
        self._connection = connection
        self._channel = channel

    @property
    def name(self) -> str:
        return self._channel

    def contract(self, chaincode: str) -> Contract:
        return Contract(self._connection, self._channel, chaincode)

    def commit(self, transaction_id: str) -> Commit:
        """To ask about a transaction whose submission is past."""
        return Commit.of(self._connection, self._channel, transaction_id)

    def blocks(self, start: int, reconnect: Reconnect | None = None) -> AsyncGenerator[Block]:
        """Whole blocks from number `start` on, without end and without gaps; see `deliver`."""
        return deliver(self._connection, self._channel, start, reconnect or Reconnect())

    async def chaincode_events(
        self, chaincode: str, start: Checkpoint | None = None, reconnect: Reconnect | None = None
    ) -> AsyncGenerator[ChaincodeEvent]:
        """Events that a chaincode set in valid transactions, without end; each once and in order.

        start  where to go on, as a `Checkpoint` says; None: with the next block of this peer

        A lost connection is made again behind the last event. Raises ChaincodeEventsError when the peer
        refuses, NoSigner without a signer; without `start` EvaluateError, when its height cannot be had.
        """
        first = start or Checkpoint((await self.chain_info()).height)
        stream = chaincode_events(self._connection, self._channel, chaincode, first, reconnect or Reconnect())
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def chain_info(self) -> ChainInfo:
        """Raises EvaluateError."""
        info = fabric.ledger.BlockchainInfo.FromString(await self._system("qscc", "GetChainInfo"))
        return ChainInfo(info.height, info.currentBlockHash)

    async def block_by_number(self, number: int) -> Block:
        """Raises EvaluateError, also when there is no such block."""
        return decode_block(await self._system("qscc", "GetBlockByNumber", str(number)))

    async def block_by_transaction(self, transaction_id: str) -> Block:
        """The block with a transaction, valid or not. Raises EvaluateError, also when there is none."""
        return decode_block(await self._system("qscc", "GetBlockByTxID", transaction_id))

    async def transaction(self, transaction_id: str) -> ProcessedTransaction:
        """One transaction without its block, valid or not. Raises EvaluateError, also when there is none."""
        return decode_processed(await self._system("qscc", "GetTransactionByID", transaction_id))

    async def application_msp_ids(self) -> tuple[str, ...]:
        """The MSP ids of the channel's members, sorted, from its configuration. Raises EvaluateError."""
        return tuple(sorted((await self.channel_config()).members))

    async def channel_config(self) -> ChannelConfig:
        """The channel's configuration as the peer has it now. Raises EvaluateError."""
        return channel_config(await self._system("cscc", "GetConfigBlock"))

    async def _system(self, chaincode: str, function: str, *arguments: str) -> bytes:
        # A peer of the own organisation: it is the one whose view is wanted.
        own = (self._connection.identity.msp_id,)
        contract = Contract(self._connection, self._channel, chaincode)
        return await contract.evaluate(function, self._channel, *arguments, organisations=own)
