"""The member's own peer, asked with storage's own Fabric identity: valid transactions, trusted certificates.

Nobody signs the validation flags of a block. They are trusted only from the own peer, over TLS, and never
from the ledger service.
"""

from __future__ import annotations

import asyncio

import fabric_gateway as fabric
from cbmdhi.protocol import block as blocks
from cbmdhi.protocol.proof import Trust
from services.runtime.errors import MeshError
from services.runtime.ttl_cache import TtlCache
from services.storage.config import StorageConfig

_TRUST_SECONDS = 30.0
_LEAST_WAIT_SECONDS = 0.1


class OwnPeer:
    """`async with OwnPeer(config)`. Raises MeshError and nothing else."""

    def __init__(self, config: StorageConfig) -> None:
        self._config = config
        self._trust: TtlCache[str, Trust] = TtlCache(1, seconds=_TRUST_SECONDS, spread=True)

    async def __aenter__(self) -> OwnPeer:
        config = self._config
        files = config.fabric_identity
        try:
            identity, signer = fabric.load(
                config.msp_id, files.certificate_file.read_bytes(), files.key_file.read_bytes()
            )
        except ValueError as exc:
            raise MeshError.invalid(
                "the files of fabric_identity are not a certificate and its P-256 key in PEM; enrol it again"
            ) from exc
        self._connection = fabric.open_channel(
            config.peer.address, config.peer.tls_ca_file.read_bytes(), config.peer.tls_server_name
        )
        self._network = fabric.Gateway(self._connection, identity, signer).network(config.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def block(self, tx_id: str, wait_seconds: float) -> bytes:
        """The serialized common.Block of a transaction that the own peer commits as valid.

        Waits `wait_seconds` for the commit. Raises NOT_FOUND, FORBIDDEN (invalid), UNAVAILABLE.
        """
        try:
            status = await self._network.commit(tx_id).status(max(wait_seconds, _LEAST_WAIT_SECONDS))
            block = (await self._network.block_by_number(status.block_number)).raw
            if not status.successful and not await asyncio.to_thread(_valid_twin, block, tx_id, status.code):
                raise MeshError.forbidden(
                    f"the own peer found the transaction invalid ({status.name}); send the access again"
                )
            return block
        except fabric.CommitStatusError as exc:
            if exc.status.name != "DEADLINE_EXCEEDED":
                raise _unavailable() from exc
            raise MeshError.not_found(
                "no such transaction is committed on this member's peer", "tx_id"
            ) from exc
        except fabric.FabricError as exc:
            raise _unavailable() from exc

    async def query(self, query: bytes) -> bytes:
        """What the own peer's chaincode answers to a serialized Query. Raises UNAVAILABLE."""
        try:
            contract = self._network.contract(self._config.chaincode)
            return await contract.evaluate("query", query, organisations=(self._config.msp_id,))
        except fabric.FabricError as exc:
            raise _unavailable() from exc

    async def trust(self, *, fresh: bool = False) -> Trust:
        """Whose signatures count, by the channel's configuration, at most 30 s old unless `fresh`."""
        known = None if fresh else self._trust.get("")
        if known is not None:
            return known
        try:
            config = await self._network.channel_config()
        except fabric.FabricError as exc:
            raise _unavailable() from exc
        trust = Trust(
            channel=self._config.channel,
            chaincode=self._config.chaincode,
            member_roots=dict(config.members),
            orderer_roots=dict(config.orderers),
            consenters=config.consenters,
            orderer_quorum=config.quorum,
        )
        self._trust.put("", trust)
        return trust

    async def check(self) -> str | None:
        """For readiness: the own peer answers."""
        await self.trust()
        return None


def _valid_twin(block: bytes, tx_id: str, code: int) -> bool:
    """Whether the block holds two envelopes with this id, one with `code` and one that is valid.

    A transaction id follows from its creator and a nonce, and peers check that. A stranger can still put an
    invalid envelope with the same id first in the block. The peer then reports the code of that one.
    """
    try:
        codes = blocks.codes_of(blocks.Block.parse(block), tx_id)
    except blocks.MalformedBlock:
        return False
    return code in codes and blocks.VALID in codes


def _unavailable() -> MeshError:
    return MeshError.unavailable("the member's peer is not there; ask again", retry_after_ms=500)
