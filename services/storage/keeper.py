"""A batch from here on: stored with as many copies as the policy wants or nowhere, and let go everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from cbmdhi.command.v1 import code_pb2
from cbmdhi.storage.v1.storage_pb2 import ReplicaReceipt
from services.runtime.errors import MeshError, code_name
from services.storage.domain import placement
from services.storage.domain.batch import Packed
from services.storage.locks import KeyedLocks
from services.storage.metrics import StorageMetrics
from services.storage.pins import Pins
from services.storage.replicas import Replicas
from services.storage.roots import Due, Roots

_log = structlog.get_logger()

_UNDO_AFTER_MS = 10 * 60 * 1000
_SWEEP_EVERY_SECONDS = 15.0
_SWEEP_AT_ONCE = 4
_SWEEP_PAGE = 100
# Under load each batch has something that was refused: let go of together, it costs a fraction.
_GATHER_SECONDS = 5.0
_TOGETHER = 25
_FIRST_DELAY_MS = 2_000
_LONGEST_DELAY_MS = 10 * 60 * 1000
_MOST_ATTEMPTS = 1_000
# The batch does not hold what should be kept, or the member has left the consortium.
_HOPELESS = (code_pb2.CODE_INVALID, code_pb2.CODE_NOT_FOUND)


class Unpinner(Protocol):
    """The other members (`members.OtherMembers`), or a fake."""

    @property
    def msps(self) -> tuple[str, ...]:
        """Who can be asked."""
        ...

    async def unpin(self, msp: str, kept_of: Mapping[str, Sequence[str]]) -> None:
        """Have a member let go of roots, but for what is kept of each. Raises MeshError."""
        ...


@dataclass(frozen=True, slots=True)
class Placement:
    """Where copies go: how many at other members, and those members' storage signing keys by MSP id."""

    copies: int
    signing_keys: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Stored:
    """Which members hold a batch, the own one first, and the others' receipts."""

    holders: tuple[str, ...]
    receipts: tuple[ReplicaReceipt, ...]


class Keeper:
    """Stores and releases this member's own roots. `run` is the task that lets go of what is due."""

    def __init__(
        self,
        own_msp: str,
        roots: Roots,
        pins: Pins,
        replicas: Replicas,
        members: Unpinner,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
        locks: KeyedLocks | None = None,
        gather_seconds: float = _GATHER_SECONDS,
    ) -> None:
        self._own_msp = own_msp
        self._gather_seconds = gather_seconds
        self._roots = roots
        self._pins = pins
        self._replicas = replicas
        self._members = members
        self._metrics = metrics
        self._now_ms = now_ms
        self._locks = locks or KeyedLocks()
        self._wake = asyncio.Event()

    async def store(
        self, packed: Packed, place: Placement, chunks: Mapping[str, Sequence[str]] | None = None
    ) -> Stored:
        """Pin a CAR in the own node and at other members, side by side.

        chunks  of the records in it that lie in several blocks, by the record's CID

        A root that stands already is not sent again: its holders are known, its receipts are not kept.
        Raises MeshError UNAVAILABLE: then it is unpinned again wherever it may have got to, in the
        background and also after a restart.
        """
        root, asked = packed.root_cid, set[str]()
        async with self._locks.hold(root):
            if await self._roots.stands(root, self._own_msp):
                return Stored((self._own_msp, *await self._roots.replicas(root)), ())
            others = placement.candidates(root, self._own_msp, place.signing_keys) if place.copies else ()
            await self._roots.begin(
                root, self._own_msp, others, self._now_ms() + _UNDO_AFTER_MS, chunks or {}
            )
            stands = False
            try:
                own, pushed = await asyncio.gather(
                    self._pins.pin(packed, self._own_msp),
                    self._replicas.push(packed, place.copies, others, place.signing_keys, asked),
                    return_exceptions=True,
                )
                if isinstance(own, BaseException):
                    raise own
                if isinstance(pushed, BaseException):
                    raise pushed
                stands = True
            finally:
                if not stands:
                    await self._roots.undo(root, {self._own_msp, *asked}, self._now_ms())
                    self._wake.set()
            holding = [receipt.msp for receipt in pushed]
            await self._roots.complete(root, holding, asked - set(holding), self._now_ms())
            return Stored((self._own_msp, *holding), tuple(pushed))

    async def release(self, root: str, keep: Sequence[str]) -> None:
        """Have one of this member's roots let go, but for what is kept of it: here and at the replicas, with
        others, some seconds from now or as soon as it works.

        Raises MeshError INVALID (a CID to keep is not below it), UNAVAILABLE. Idempotent.
        """
        async with self._locks.hold(root):
            if not await self._roots.holds(root, self._own_msp):
                return
            kept = tuple(await self._roots.with_chunks(root, keep))
            if kept and await self._pins.survivors(root, kept) is None:
                return
            holders = (self._own_msp, *await self._roots.replicas(root))
            await self._roots.release(root, holders, kept, self._now_ms())
        self._wake.set()

    async def recover(self) -> None:
        """By a process that is alone, before it stores: what an earlier one did not finish is undone."""
        await self._roots.hurry(self._now_ms())

    async def run(self) -> None:
        """Let go of what is due, for as long as the service lives."""
        while True:
            self._wake.clear()
            await self._sweep()
            self._metrics.unpins_due.set(await self._roots.count_due())
            try:
                async with asyncio.timeout(_SWEEP_EVERY_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(self._gather_seconds)

    async def _sweep(self) -> None:
        while page := await self._roots.due(self._now_ms(), _SWEEP_PAGE):
            groups = _groups(page)
            for start in range(0, len(groups), _SWEEP_AT_ONCE):
                await asyncio.gather(
                    *(self._let_go(group) for group in groups[start : start + _SWEEP_AT_ONCE])
                )

    async def _let_go(self, group: Sequence[Due]) -> None:
        """Of roots that one member holds."""
        try:
            async with self._locks.hold(*(due.root for due in group)):
                dues = await self._roots.still_due(group, self._now_ms())
                if dues:
                    await self._unpin(dues[0].msp, {due.root: due.keep for due in dues})
                    await self._roots.released(dues)
        except MeshError as err:
            # Of the node, the member, another process of this storage that keeps a root, or one of the roots.
            for due in group:
                await self._again_later(due, err, alone=len(group) == 1)

    async def _unpin(self, msp: str, kept_of: Mapping[str, Sequence[str]]) -> None:
        if msp == self._own_msp:
            await self._pins.unpin(msp, kept_of)
        elif msp in self._members.msps:
            await self._members.unpin(msp, kept_of)
        else:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "it is not a member any more")

    async def _again_later(self, due: Due, err: MeshError, *, alone: bool) -> None:
        code = err.code
        if (alone and code in _HOPELESS) or due.attempts >= _MOST_ATTEMPTS:
            _log.error("unpin.given_up", member=due.msp, code=code_name(code), attempt=due.attempts)
            await self._roots.released([due])
            return
        _log.warning("unpin.postponed", member=due.msp, code=code_name(code), attempt=due.attempts)
        delay_ms = min(_LONGEST_DELAY_MS, _FIRST_DELAY_MS * 2 ** min(due.attempts, 20))
        await self._roots.postpone(due, self._now_ms() + delay_ms)


def _groups(page: Sequence[Due]) -> list[list[Due]]:
    """What is let go of together: roots of one member. What failed before is tried alone, so that it holds
    up no other."""
    groups = [[due] for due in page if due.attempts]
    fresh: dict[str, list[Due]] = {}
    for due in page:
        if not due.attempts:
            fresh.setdefault(due.msp, []).append(due)
    for dues in fresh.values():
        groups += [dues[start : start + _TOGETHER] for start in range(0, len(dues), _TOGETHER)]
    return groups
