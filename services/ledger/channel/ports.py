"""The chaincode and the channel, as this service needs them: ports for Fabric and for tests."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from cbmdhi.command.v1.state_pb2 import SealedKey
from fabric_gateway import Block, BlockTransaction, ChainInfo, CommitStatus
from services.ledger.domain.endorsers import Holders


class Commit(Protocol):
    """A submitted transaction. Raises CommitStatusError: its outcome is not known."""

    async def status(self, wait_seconds: float | None = None) -> CommitStatus: ...


class Endorsed(Protocol):
    """An endorsed transaction."""

    @property
    def transaction_id(self) -> str: ...

    @property
    def result(self) -> bytes:
        """A serialized BatchResult."""
        ...

    @property
    def written(self) -> frozenset[str]:
        """The chaincode's public state keys that it will write."""
        ...

    @property
    def changes_nothing(self) -> bool:
        """True when it writes nothing at all, privately either."""
        ...

    async def submit(self) -> Commit:
        """Raises SubmitError. Sending it again sends the same transaction."""
        ...

    def commit(self) -> Commit:
        """For asking the status when the answer to the submission was lost."""
        ...


class Channel(Protocol):
    """The channel through the member's own peer. Raises the errors of `fabric_gateway`."""

    async def endorse(self, batch: bytes, sealed_keys: Sequence[SealedKey], holders: Holders) -> Endorsed:
        """`process` by a majority. Keys for members that do not endorse are not sent.

        Raises EndorseError, EvaluateError.
        """
        ...

    async def deliver(self, late_keys: Sequence[SealedKey]) -> Endorsed:
        """`deliver`, also endorsed by the custodians of the keys. Raises EndorseError, EvaluateError."""
        ...

    async def tick(self) -> Endorsed:
        """`tick`, which begins the present epoch, by a majority. Raises EndorseError, EvaluateError."""
        ...

    async def query(self, query: bytes) -> bytes:
        """`query` on the own peer: a serialized QueryResult. Raises EvaluateError."""
        ...

    async def endorse_query(self, query: bytes) -> tuple[bytes, bytes]:
        """The same query to a majority of members, never ordered.

        Gives the serialized common.Payload that they signed, and their answer.
        Raises EndorseError, EvaluateError.
        """
        ...

    async def endorse_query_here(self, query: bytes) -> tuple[bytes, bytes]:
        """The same by the own peer alone, while no majority answers."""
        ...

    async def members(self) -> tuple[str, ...]:
        """MSP ids of the members, sorted. Raises EvaluateError."""
        ...

    async def chain_info(self) -> ChainInfo: ...

    async def block_by_number(self, number: int) -> Block: ...

    async def block_by_transaction(self, transaction_id: str) -> Block: ...

    async def transaction(self, transaction_id: str) -> BlockTransaction:
        """One transaction without the rest of its block. Raises EvaluateError, also when there is none."""
        ...

    def blocks(self, start: int) -> AsyncGenerator[Block]: ...


class FirstBlocks(Protocol):
    """Finds the blocks of transactions that are committed."""

    async def blocks_of(self, tx_ids: Sequence[str]) -> dict[str, int]: ...
