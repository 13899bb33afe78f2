"""The member's Kubo node, through aioipfs: imports CARs, gives blocks, pins and unpins.

aioipfs 0.7.1 has traps: most calls give None when the connection is lost, `car_import` gives the JSON of an
error as if it were an answer, and `block.get` asks the swarm and waits for ever without `offline`. This
module handles them: its methods give an answer or raise MeshError.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import aiohttp
import aioipfs
from opentelemetry.trace import SpanKind

from cbmdhi.protocol import cid as cids
from services.runtime import tracing
from services.runtime.errors import MeshError
from services.storage.domain.batch import Root
from services.storage.metrics import StorageMetrics

T = TypeVar("T")

_ATTEMPTS = 2
_CONNECTIONS = 32
# CIDs in the URL of one call: 64 kB.
_REMOVED_TOGETHER = 1_000
_LOST = (aiohttp.ClientError, aioipfs.IPFSConnectionError, ConnectionError)


class Kubo:
    """`async with Kubo("127.0.0.1:5001", metrics)`; reconnects when the node was restarted.

    call_seconds    deadline of a small call, with the second attempt after a lost connection
    import_seconds  deadline of an import
    """

    def __init__(
        self, rpc_address: str, metrics: StorageMetrics, *, call_seconds: float, import_seconds: float
    ) -> None:
        self._rpc_address = rpc_address
        self._metrics = metrics
        self._call_seconds = call_seconds
        self._import_seconds = import_seconds
        self._client: Any = None

    async def __aenter__(self) -> Kubo:
        host, _, port = self._rpc_address.rpartition(":")
        self._client = aioipfs.AsyncIPFS(host=host.strip("[]"), port=int(port), conns_max=_CONNECTIONS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def import_car(self, root_cid: str, car: bytes) -> None:
        """Store the blocks of a CAR and pin its root. Idempotent.

        Raises MeshError UNAVAILABLE (it may be pinned nevertheless: unpin it), INTEGRITY.
        """
        try:
            answer = await self._ask(
                "dag/import", lambda: self._client.dag.car_import(car), self._import_seconds
            )
        except aioipfs.APIError as exc:
            raise _refused("import the batch") from exc
        root = answer.get("Root") if isinstance(answer, dict) else None
        if not root or root.get("PinErrorMsg"):
            raise _refused("import and pin the batch")
        if root["Cid"]["/"] != root_cid:
            raise self._metrics.differed("import", "the Kubo node pinned another root than was sent")

    async def pin_roots(self, roots: Sequence[Root]) -> None:
        """Store roots and pin them with all linked blocks, which are here already. Idempotent.

        Kubo does both under one lock, so garbage collection cannot come between. It does not read the linked
        blocks, as an import would (measured with 500 blocks: 1.7 ms instead of 5).

        Raises MeshError UNAVAILABLE (some may be pinned nevertheless: unpin them), INTEGRITY.
        """
        if not roots:
            return
        api = self._client.block
        params = {"cid-codec": "dag-cbor", "mhtype": "sha2-256", "pin": "true", "allow-big-block": "true"}

        async def put() -> Any:
            form = aiohttp.FormData()
            for root in roots:
                form.add_field("data", root.block, filename=root.cid, content_type="application/octet-stream")
            return await api.post(api.url("block/put"), data=form, params=params)

        try:
            answer = await self._ask("block/put", put, self._call_seconds)
        except aioipfs.APIError as exc:
            raise _refused("pin the batches") from exc
        # One line for each root, in order. Fewer lines, or an error line, when it failed half-way.
        try:
            keys = [json.loads(line)["Key"] for line in answer.splitlines()]
        except (ValueError, KeyError) as exc:
            raise _refused("pin the batches") from exc
        if len(keys) != len(roots):
            raise _refused("pin the batches")
        if keys != [root.cid for root in roots]:
            raise self._metrics.differed("import", "the Kubo node pinned another root than was sent")

    async def unpin(self, root_cids: Sequence[str]) -> None:
        """Unpin roots. The garbage collector removes their blocks later. Idempotent.

        Raises MeshError UNAVAILABLE: some may be unpinned nevertheless.
        """
        if not root_cids:
            return
        api = self._client.pin
        params = [("arg", root_cid) for root_cid in root_cids]
        try:
            await self._ask(
                "pin/rm", lambda: api.fetch_json(api.url("pin/rm"), params=params), self._call_seconds
            )
        except aioipfs.NotPinnedError:
            # Kubo stops at the first root that is not pinned.
            if len(root_cids) > 1:
                for root_cid in root_cids:
                    await self.unpin([root_cid])
        except aioipfs.APIError as exc:
            raise _refused("unpin the batches") from exc

    async def remove(self, cids: Sequence[str]) -> int:
        """Remove unpinned blocks from the disk; gives how many were there. Idempotent.

        Raises MeshError UNAVAILABLE: some may be removed nevertheless.
        """
        api = self._client.block
        removed = 0
        for start in range(0, len(cids), _REMOVED_TOGETHER):
            params = [("arg", cid) for cid in cids[start : start + _REMOVED_TOGETHER]]
            try:
                answer = await self._ask(
                    "block/rm",
                    lambda params=params: api.post(api.url("block/rm"), params=params),
                    self._import_seconds,
                )
                # One line for each block: removed, or why not (pinned, not here). A line without a hash:
                # the whole call failed.
                lines = [json.loads(line) for line in answer.splitlines()]
                failed = [line for line in lines if not line.get("Hash")]
            except (aioipfs.APIError, ValueError) as exc:
                raise _refused("remove what is unpinned") from exc
            if failed:
                raise _refused("remove what is unpinned")
            removed += sum(not line.get("Error") for line in lines)
        return removed

    async def get(self, cid: str) -> bytes | None:
        """A block on this node, checked against its CID; None: the node does not give it.

        Raises MeshError INTEGRITY (the stored bytes do not match), UNAVAILABLE.
        """
        api = self._client.block
        try:
            data = await self._ask(
                "block/get",
                lambda: api.fetch_raw(api.url("block/get"), params={"arg": cid, "offline": "true"}),
                self._call_seconds,
            )
        except aioipfs.APIError:
            return None
        try:
            cids.check(cid, data)
        except cids.HashMismatch as exc:
            self._metrics.count_check("own", matched=False)
            raise self._metrics.differed(
                "own-block", "a block of the own Kubo node does not match its CID"
            ) from exc
        self._metrics.count_check("own", matched=True)
        return data

    async def check(self) -> str | None:
        """For readiness: the node answers and publishes nothing.

        The node itself ensures that its swarm is private (swarm.key, LIBP2P_FORCE_PNET=1): it does not start
        otherwise.
        """
        repo = self._client.repo
        try:
            routing = await self._ask(
                "config", lambda: self._client.config.config("Routing.Type"), self._call_seconds
            )
            swarm = await self._ask(
                "swarm/peers", lambda: self._client.swarm.peers(verbose=False), self._call_seconds
            )
            stat = await self._ask(
                "repo/stat",
                lambda: repo.fetch_json(repo.url("repo/stat"), params={"size-only": "true"}),
                self._call_seconds,
            )
        except aioipfs.APIError as exc:
            raise _refused("say how it is") from exc
        self._metrics.swarm_peers.set(len(swarm.get("Peers") or ()))
        self._metrics.repository_bytes.set(stat.get("RepoSize", 0))
        if routing.get("Value") != "none":
            return "the Kubo node takes part in public routing; set Routing.Type to none and start it again"
        return None

    async def _ask(self, name: str, call: Callable[[], Awaitable[T | None]], seconds: float) -> T:
        """One call with a deadline, repeated once after a lost connection. Also raises aioipfs.APIError."""
        with tracing.span(f"kubo {name}", kind=SpanKind.CLIENT, expected=(aioipfs.APIError,)):
            return await self._asked(call, seconds)

    async def _asked(self, call: Callable[[], Awaitable[T | None]], seconds: float) -> T:
        lost: Exception | None = None
        try:
            async with asyncio.timeout(seconds):
                for _ in range(_ATTEMPTS):
                    try:
                        answer = await call()
                    except _LOST as exc:
                        lost = exc
                    else:
                        if answer is not None:
                            return answer
        except TimeoutError as exc:
            raise MeshError.unavailable(
                f"the Kubo node did not answer within {seconds:g} s; send again"
            ) from exc
        except (aioipfs.RPCAccessDenied, ValueError) as exc:
            raise _refused("answer as Kubo does") from exc
        raise MeshError.unavailable("the Kubo node cannot be reached; start it, then send again") from lost


def _refused(what: str) -> MeshError:
    return MeshError.unavailable(f"the Kubo node did not {what}; see its log and its disk, then send again")
