"""Transactions straight from a client of one peer: what the layers below the mesh are measured with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabric_gateway as fabric
from bench.load.chain import credentials
from bench.load.tally import Stands
from bench.sealed import Sealed
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import BatchResult

_DEADLINES = fabric.Deadlines(endorse_seconds=60.0, submit_seconds=30.0, commit_status_seconds=60.0)


@dataclass(frozen=True)
class Committed:
    """A transaction that both members endorsed and that was found valid."""

    tx_id: str
    block: int
    result: BatchResult


class NotDone(Exception):
    """A record that was to be committed was refused: its verdict."""


class Endorsing:
    """`async with` it: the channel, through one member's peer, endorsed by all members."""

    def __init__(self, endpoints: dict[str, Any], member: str) -> None:
        organisation = endpoints["organisations"][member]
        self._peer = organisation["peer"]
        self._roots = Path(self._peer["tls_ca_file"]).read_bytes()
        self._identity, self._signer = fabric.load(organisation["msp_id"], *credentials(organisation))
        self._names = endpoints["channel"], endpoints["chaincode"]
        self._all = [entry["msp_id"] for entry in endpoints["organisations"].values() if "peer" in entry]
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Endorsing:
        connection = fabric.open_channel(self._peer["address"], self._roots, self._peer["tls_server_name"])
        self._resources.push_async_callback(connection.close)
        gateway = fabric.Gateway(connection, self._identity, self._signer, _DEADLINES)
        channel, chaincode = self._names
        self._contract = gateway.network(channel).contract(chaincode)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def process(self, batch: bytes) -> Committed:
        """Endorse, order and commit a batch. Raises fabric.FabricError."""
        proposal = self._contract.propose("process", batch, organisations=self._all)
        transaction = await proposal.endorse()
        result = BatchResult.FromString(transaction.result)
        commit = await transaction.submit()
        status = await commit.confirm()
        return Committed(transaction.transaction_id, status.block_number, result)

    def stands(self, batch: Sequence[Sealed], committed: Committed) -> list[Stands]:
        """What each record's receipt would say. Raises NotDone."""
        found: list[Stands] = []
        for record, group in zip(batch, committed.result.groups, strict=True):
            [verdict] = group.verdicts
            if verdict.code != code_pb2.CODE_OK:
                raise NotDone(f"{code_pb2.Code.Name(verdict.code)}: {verdict.reason}")
            item = record.item
            found.append(
                Stands(
                    committed.tx_id,
                    committed.block,
                    item.command_id,
                    item.signer,
                    verdict.code,
                    record.cid,
                    "",
                )
            )
        return found
