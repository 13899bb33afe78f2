"""Each member's own peer, asked directly: the blocks of a run, checked, with every command's verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import fabric_gateway as fabric
from cbmdhi.protocol import proof


class Verdict(NamedTuple):
    """What stands in the block about a command. `cid`: of the first stored content of its group."""

    code: int
    command_sha256: bytes
    cid: str


Verdicts = dict[tuple[str, str], Verdict]


class Peer:
    """`async with` it. Reads the channel as the member's Fabric administrator may."""

    def __init__(self, organisation: Mapping[str, Any], channel: str) -> None:
        self.msp_id = str(organisation["msp_id"])
        self._organisation = organisation
        self._channel = channel
        self._roots = Path(organisation["peer"]["tls_ca_file"]).read_bytes()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Peer:
        peer = self._organisation["peer"]
        connection = fabric.open_channel(peer["address"], self._roots, peer["tls_server_name"])
        self._resources.push_async_callback(connection.close)
        identity, signer = fabric.load(self.msp_id, *credentials(self._organisation))
        self.network = fabric.Gateway(connection, identity, signer).network(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def verdicts(
        self, wanted: Mapping[int, Iterable[str]], trust: proof.Trust
    ) -> tuple[dict[str, Verdicts], list[str]]:
        """By transaction, the verdicts of those that stand; and a sentence for each that does not.

        wanted  transaction ids by block number
        """
        found: dict[str, Verdicts] = {}
        failures: list[str] = []
        if not wanted:
            return found, failures
        previous = b""
        first, last = min(wanted), max(wanted)
        async with aclosing(self.network.blocks(max(first - 1, 0))) as blocks:
            async for block in blocks:
                for tx_id in wanted.get(block.number, ()):
                    try:
                        found[tx_id] = _verdicts(block.raw, previous, tx_id, trust)
                    except proof.ProofError as error:
                        failures.append(f"{self.msp_id}: a transaction does not stand: {error}")
                previous = block.header
                if block.number >= last:
                    return found, failures
        return found, failures


def credentials(organisation: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Certificate and key (PEM) of the organisation's Fabric administrator."""
    msp = Path(organisation["admin_msp_directory"])
    [certificate] = (msp / "signcerts").iterdir()
    [key] = (msp / "keystore").iterdir()
    return certificate.read_bytes(), key.read_bytes()


def _verdicts(block: bytes, previous_header: bytes, tx_id: str, trust: proof.Trust) -> Verdicts:
    verified = proof.verify_transaction(block, previous_header, tx_id, trust)
    if not verified.valid:
        raise proof.ProofError("valid", "the peer found the transaction invalid")
    verdicts: Verdicts = {}
    for item, group in zip(verified.batch.items, verified.result.groups, strict=True):
        stored = item.contents[0].cid if item.contents else ""
        for signed, verdict in zip(item.group.commands, group.verdicts, strict=False):
            verdicts[verdict.command_id, signed.signer] = Verdict(
                verdict.code, sha256(signed.command).digest(), stored
            )
    return verdicts
