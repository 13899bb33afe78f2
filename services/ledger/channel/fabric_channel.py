"""The channel over a real Fabric peer."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import structlog

import fabric_gateway as fabric
from cbmdhi.command.v1.state_pb2 import SealedKey, SealedKeys
from services.ledger.config import LedgerConfig
from services.ledger.domain.endorsers import Endorsers, Holders, is_absence
from services.ledger.domain.failures import leading_code
from services.runtime import tracing
from services.runtime.errors import MeshError

_log = structlog.get_logger()

_MEMBERS_SECONDS = 60.0


class FabricChannel:
    """`async with FabricChannel(config)`: the channel and chaincode that the configuration names."""

    def __init__(self, config: LedgerConfig) -> None:
        self._msp_id = config.msp_id
        self._chaincode = config.chaincode
        self._endorsers = Endorsers(config.msp_id, time.monotonic)
        self._config = config
        self._members: tuple[str, ...] = ()
        self._members_until = 0.0

    async def __aenter__(self) -> "FabricChannel":
        config = self._config
        identity, signer = _identity(config)
        self._connection = fabric.open_channel(
            config.peer.address, config.peer.tls_ca_file.read_bytes(), config.peer.tls_server_name
        )
        self._network = fabric.Gateway(self._connection, identity, signer).network(config.channel)
        self._contract = self._network.contract(self._chaincode)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def endorse(
        self, batch: bytes, sealed_keys: Sequence[SealedKey], holders: Holders
    ) -> "EndorsedBatch":
        return await self._endorse("process", batch, sealed_keys, holders, traced=bool(tracing.sampled()))

    async def tick(self) -> "EndorsedBatch":
        return await self._endorse("tick", b"", (), Holders())

    async def deliver(self, late_keys: Sequence[SealedKey]) -> "EndorsedBatch":
        return await self._endorse(
            "deliver", b"", late_keys, Holders(needed=frozenset(key.msp for key in late_keys))
        )

    async def _endorse(
        self,
        function: str,
        argument: bytes,
        sealed_keys: Sequence[SealedKey],
        holders: Holders,
        *,
        traced: bool = False,
    ) -> "EndorsedBatch":
        organisations = self._endorsers.choose(await self.members(), holders)
        transient: dict[str, bytes] = {}
        # A transaction that writes a member's collection without its endorsement is invalid.
        if keys := [key for key in sealed_keys if key.msp in organisations]:
            transient["sealed_keys"] = SealedKeys(keys=keys).SerializeToString()
        if traced:
            # The transient map reaches the endorsing chaincodes and is in no block.
            transient |= {name: value.encode() for name, value in tracing.inject_headers().items()}
        proposal = self._contract.propose(
            function, argument, transient=transient, organisations=organisations
        )
        try:
            transaction = await proposal.endorse()
        except fabric.EndorseError as exc:
            failed = {failure.msp_id for failure in exc.failures}
            if is_absence(leading_code(exc.chaincode_messages), self._msp_id in failed):
                self._endorsers.failed(organisations, failed)
            raise
        self._endorsers.answered(organisations)
        return EndorsedBatch(transaction, self._chaincode)

    async def query(self, query: bytes) -> bytes:
        return await self._contract.evaluate("query", query, organisations=(self._msp_id,))

    async def endorse_query(self, query: bytes) -> tuple[bytes, bytes]:
        organisations = self._endorsers.choose(await self.members())
        try:
            endorsed = await self._contract.propose("query", query, organisations=organisations).endorse()
        except fabric.EndorseError as exc:
            # Peers that only disagree are available: one gets the newest block some milliseconds later.
            named = {failure.msp_id for failure in exc.failures}
            if named and leading_code(exc.chaincode_messages) is None:
                self._endorsers.failed(organisations, named)
            raise
        self._endorsers.answered(organisations)
        return endorsed.payload, endorsed.result

    async def endorse_query_here(self, query: bytes) -> tuple[bytes, bytes]:
        endorsed = await self._contract.propose("query", query, organisations=(self._msp_id,)).endorse()
        return endorsed.payload, endorsed.result

    async def members(self) -> tuple[str, ...]:
        """Cached for a minute: members change seldom, and a transaction with too few endorsers only fails."""
        now = asyncio.get_running_loop().time()
        if not self._members or now >= self._members_until:
            self._members = await self._network.application_msp_ids()
            self._members_until = now + _MEMBERS_SECONDS
        return self._members

    async def chain_info(self) -> fabric.ChainInfo:
        return await self._network.chain_info()

    async def block_by_number(self, number: int) -> fabric.Block:
        return await self._network.block_by_number(number)

    async def block_by_transaction(self, transaction_id: str) -> fabric.Block:
        return await self._network.block_by_transaction(transaction_id)

    async def transaction(self, transaction_id: str) -> fabric.BlockTransaction:
        return (await self._network.transaction(transaction_id)).transaction

    def blocks(self, start: int) -> AsyncGenerator[fabric.Block]:
        return self._network.blocks(start, fabric.Reconnect(on_lost=_lost))


class EndorsedBatch:
    """An endorsed `process` or `tick`."""

    def __init__(self, transaction: fabric.Transaction, chaincode: str) -> None:
        self._transaction = transaction
        self._chaincode = chaincode

    @property
    def transaction_id(self) -> str:
        return self._transaction.transaction_id

    @property
    def result(self) -> bytes:
        return self._transaction.result

    @property
    def written(self) -> frozenset[str]:
        writes = self._transaction.action.writes
        return frozenset(write.key for write in writes if write.namespace == self._chaincode)

    @property
    def changes_nothing(self) -> bool:
        action = self._transaction.action
        return not action.writes and not action.private

    async def submit(self) -> fabric.Commit:
        return await self._transaction.submit()

    def commit(self) -> fabric.Commit:
        return self._transaction.commit()


def _identity(config: LedgerConfig) -> tuple[fabric.Identity, fabric.Signer]:
    files = config.fabric_identity
    try:
        return fabric.load(config.msp_id, files.certificate_file.read_bytes(), files.key_file.read_bytes())
    except ValueError as exc:
        raise MeshError.invalid(
            "the files of fabric_identity are not a certificate and its P-256 key in PEM; enrol it again"
        ) from exc


def _lost(status: object) -> None:
    _log.warning("blocks.connection_lost", status=str(status).removeprefix("StatusCode."))
