"""Both members' Kubo nodes by their RPC, as the layers below the mesh are measured with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp

from bench.load.blobs import Node

_SECONDS = 60.0


class NotStored(Exception):
    """A node did not take what it was given, or names it otherwise."""


def of_network(endpoints: dict[str, Any]) -> dict[str, str]:
    """URL of the RPC of each member's node, by MSP id."""
    return {
        entry["msp_id"]: entry["ipfs"]["rpc"]
        for entry in endpoints["organisations"].values()
        if "ipfs" in entry
    }


class Nodes:
    """Those at these RPC URLs, by name. `async with` it."""

    def __init__(self, rpcs: Mapping[str, str]) -> None:
        self._rpcs = rpcs

    async def __aenter__(self) -> Nodes:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS), connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def add(self, name: str, block: bytes) -> None:
        """One `ipfs add` at each node, pinned. Raises NotStored."""
        parameters = {"cid-version": "1", "raw-leaves": "true", "pin": "true", "quieter": "true"}
        await self._everywhere("add", parameters, block, lambda answer: json.loads(answer)["Hash"] == name)

    async def import_car(self, root: str, raw: bytes) -> None:
        """One `ipfs dag import` at each node, the root pinned. Raises NotStored."""
        await self._everywhere("dag/import", {}, raw, lambda answer: root.encode() in answer)

    async def missing(self, roots: Iterable[str], wanted: Iterable[str]) -> int:
        """How many blocks a node lacks or holds with other bytes, over both nodes."""
        roots, wanted = set(roots), set(wanted)
        count = 0
        for name, rpc in self._rpcs.items():
            async with Node(name, rpc) as node:
                held, _ = await node.held(roots, wanted)
            count += len(wanted) - len(held)
        return count

    async def _everywhere(self, command: str, parameters: dict[str, str], raw: bytes, right: Any) -> None:
        await asyncio.gather(
            *(self._one(f"{rpc}/api/v0/{command}", parameters, raw, right) for rpc in self._rpcs.values())
        )

    async def _one(self, url: str, parameters: dict[str, str], raw: bytes, right: Any) -> None:
        form = aiohttp.FormData()
        form.add_field("file", raw, filename="block", content_type="application/octet-stream")
        async with self._http.post(url, params=parameters, data=form) as answer:
            read = await answer.read()
        if answer.status != 200 or not right(read):
            raise NotStored(f"a Kubo node answered {answer.status} to {url.rpartition('/v0/')[2]}")
