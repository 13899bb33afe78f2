"""Each member's own Kubo node, asked directly: is every block of a run there, and are its bytes right?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType

import aiohttp

from cbmdhi.protocol import car, cid

_AT_ONCE = 4
# Of a batch: a record may lie in several.
_MOST_BLOCKS = 5_000
_SECONDS = 60.0


class Node:
    """A node's RPC address. `async with` it. Nothing is fetched from the swarm: every call is `offline`."""

    def __init__(self, name: str, rpc: str) -> None:
        self.name = name
        self._rpc = rpc

    async def __aenter__(self) -> Node:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def held(self, roots: Iterable[str], wanted: Iterable[str]) -> tuple[set[str], list[str]]:
        """Which of the wanted CIDs the node holds with the right bytes; and a sentence for each problem.

        A batch's root brings all its blocks in one call; what no root brought is asked for by itself.
        """
        missing, failures = set(wanted), list[str]()
        total = frozenset(missing)
        turns = asyncio.Semaphore(_AT_ONCE)

        async def export(root: str) -> None:
            async with turns:
                raw = await self._call("dag/export", root)
            if raw is None:
                return
            try:
                # Each block's hash is checked as it is read.
                _, blocks = car.read(raw, _MOST_BLOCKS)
                missing.difference_update(cid.from_bytes(name) for name, _ in blocks)
            except (car.BadCar, cid.HashMismatch, ValueError) as error:
                failures.append(f"{self.name}: a batch is not what its CIDs say: {error}")

        async def one(name: str) -> None:
            async with turns:
                raw = await self._call("block/get", name)
            try:
                if raw is None:
                    return
                cid.check(name, raw)
                missing.discard(name)
            except (cid.HashMismatch, ValueError) as error:
                failures.append(f"{self.name}: a block is not what its CID says: {error}")

        await asyncio.gather(*(export(root) for root in set(roots)))
        await asyncio.gather(*(one(name) for name in sorted(missing)))
        return set(total - missing), failures

    async def _call(self, command: str, argument: str) -> bytes | None:
        parameters = {"arg": argument, "offline": "true"} | (
            {"progress": "false"} if command == "dag/export" else {}
        )
        try:
            async with self._http.post(f"{self._rpc}/api/v0/{command}", params=parameters) as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None
