"""Everything signed before it is due: ids, commitments and signatures, made in processes of their own.

A command is dated to the moment when it is due: that is when an engine would have signed it, and commands
that have waited for over a minute are looked up by the gateway as possible replays.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from bench.load.payloads import templates
from bench.load.plan import FORBIDDEN, GOOD, READ, REPLAY, SCHEMA, SIGNATURE, Load
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import command, envelope, signature
from cbmdhi.protocol.channel import Channel

LIFETIME_SECONDS = 600
_CHUNK = 1_000
_TRIED = 64


@dataclass(frozen=True)
class Key:
    """Somebody who signs: address and private key (PEM, as processes hand it on)."""

    address: str
    pem: bytes = field(repr=False)


@dataclass(frozen=True)
class Recipe:
    """What a preparing process needs.

    authors   who sign the records, in turn
    outsider  a patient: whose records about others are forbidden
    patients  addresses, in turn
    start_ms  Unix ms of the run's planned start
    """

    load: Load
    channel: Channel
    authors: Sequence[Key]
    outsider: Key
    patients: Sequence[str]
    start_ms: int


class Item(NamedTuple):
    """One submission, and what has to come of it.

    message          serialized IngestItem
    command_sha256   what must stand in the block
    content_sha256   what must come out when it is read
    """

    number: int
    kind: str
    message: bytes
    submission_id: str
    command_id: str
    signer: str
    patient: str
    record_id: str
    command_sha256: bytes
    content_sha256: bytes


class Preparer:
    """Makes a recipe's items in one process."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._templates = templates(recipe.load.size)
        self._keys = [signature.load_private_key(author.pem) for author in recipe.authors]
        self._outsider = signature.load_private_key(recipe.outsider.pem)

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """The records among those operations, in order; reads are none."""
        made: list[Item] = []
        last_good: Item | None = None
        for number in numbers:
            kind = self._recipe.load.kind(number)
            if kind == READ:
                continue
            if kind == REPLAY:
                # Without an earlier one at hand the first of a chunk is a plain record.
                made.append(_replay(number, last_good) if last_good else self._item(number, GOOD))
                continue
            item = self._item(number, kind)
            if kind == GOOD:
                last_good = item
            made.append(item)
        return made

    def _item(self, number: int, kind: str) -> Item:
        recipe = self._recipe
        due_ms = recipe.start_ms + int(recipe.load.due_seconds(number) * 1000)
        who = number % len(recipe.authors)
        author, key = recipe.authors[who], self._keys[who]
        patient = recipe.patients[number % len(recipe.patients)]
        if kind == FORBIDDEN:
            author, key = recipe.outsider, self._outsider
        record_id, command_id = id_at(due_ms, number), id_at(due_ms, number)
        template = self._templates[number % len(self._templates)]
        content = template.content(record_id, patient)
        if kind == SCHEMA:
            content = _spoilt(content)
        salt = envelope.new_salt()
        body = pb.PutRecord(
            record_id=record_id,
            version=1,
            patient=patient,
            category=template.category,
            content_commitment=envelope.commitment(salt, content),
            content_bytes=len(content),
        )
        raw = command.make(
            body,
            channel=recipe.channel,
            lifetime_seconds=LIFETIME_SECONDS,
            now_ms=due_ms,
            command_id=command_id,
        )
        signed = _sign(key, author.address, raw)
        if kind == SIGNATURE:
            signed.signature = signature.sign(self._outsider, signature.COMMAND, raw)
        message = gateway_pb2.IngestItem(
            submission_id=record_id,
            group=pb.CommandGroup(commands=[signed]),
            contents=[gateway_pb2.Content(command_index=0, content=content, salt=salt)],
        ).SerializeToString()
        return Item(
            number,
            kind,
            message,
            record_id,
            command_id,
            author.address,
            patient,
            record_id,
            hashlib.sha256(raw).digest(),
            hashlib.sha256(content).digest(),
        )


def id_at(unix_ms: int, number: int) -> str:
    """A UUIDv7 of that moment; `number` orders those of one millisecond."""
    value = (unix_ms << 80) | (0x7 << 76) | ((number & 0xFFF) << 64) | (0b10 << 62) | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def lead_seconds(recipe: Recipe, records: int, processes: int) -> float:
    """How long preparing that many records will take, a tenth and two seconds over: tried, not guessed."""
    preparer = Preparer(recipe)
    started = time.perf_counter()
    preparer.items(range(_TRIED))
    each = (time.perf_counter() - started) / _TRIED
    return 2.0 + 1.1 * each * records / processes


class Pool:
    """Processes that prepare. `async with` it; `items` gives the chunks in order."""

    def __init__(self, recipe: Recipe, processes: int) -> None:
        # A process that was forked off a running gRPC would hang.
        context = multiprocessing.get_context("spawn")
        self._recipe = recipe
        self._pool = ProcessPoolExecutor(processes, context, _begin, (recipe,))

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    @property
    def pids(self) -> list[int]:
        """The processes, once there are any."""
        return list(self._pool._processes or ())

    async def items(self, ahead: int) -> AsyncIterator[list[Item]]:
        """Chunks of items, in order; at most `ahead` records are waiting to be taken."""
        numbers = range(self._recipe.load.operations)
        starts = iter(range(0, len(numbers), _CHUNK))
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[list[Item]]] = []
        while True:
            while len(waiting) < max(ahead // _CHUNK, 1) and (start := next(starts, None)) is not None:
                chunk = numbers[start : start + _CHUNK]
                waiting.append(loop.run_in_executor(self._pool, _make, chunk))
            if not waiting:
                return
            yield await waiting.pop(0)


_preparer: Preparer | None = None


def _begin(recipe: Recipe) -> None:
    global _preparer
    os.nice(5)
    _preparer = Preparer(recipe)


def _make(numbers: Sequence[int]) -> list[Item]:
    if _preparer is None:
        raise RuntimeError("the process was not begun")
    return _preparer.items(numbers)


def _sign(key: ec.EllipticCurvePrivateKey, address: str, raw: bytes) -> pb.SignedCommand:
    return pb.SignedCommand(
        command=raw, signature=signature.sign(key, signature.COMMAND, raw), signer=address
    )


def _replay(number: int, earlier: Item) -> Item:
    """The very same command again, as a submission of its own."""
    again = gateway_pb2.IngestItem.FromString(earlier.message)
    again.submission_id = f"{earlier.submission_id}-again-{number}"
    return earlier._replace(
        number=number, kind=REPLAY, message=again.SerializeToString(), submission_id=again.submission_id
    )


def _spoilt(content: bytes) -> bytes:
    """The resource with a `language` that is no code: its author signs it, R4's schema refuses it."""
    return content[:-1] + b',"language":[1]}'
