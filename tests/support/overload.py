"""Clients that go on sending whatever becomes of it: each call has a deadline, each answer is kept as given.

An `Application` calls once for each record, an `Engine` streams them. Both are the SDK as anybody has it, so
what is kept is what a user of it would believe.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.load.plan import Load
from bench.load.prepare import Item
from bench.load.run import Feed
from cbmdhi.client import Client
from cbmdhi.client.commands import carry
from cbmdhi.client.records import NewRecord, Prepared
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, name_of
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt

DEADLINE_SECONDS = 3.0
# An application that waits for more than that many answers does not call again before some have come.
_MOST_OPEN = 2_000
# An engine sends together what was due within that time.
_BURST_SECONDS = 0.5
_TICK_SECONDS = 0.05
# Sent before the last is answered: calls of an application, streams of an engine, records in each.
_CALLS, _STREAMS, _TOGETHER = 16, 2, 100
_AGAIN_TOGETHER = 500


class Answer(NamedTuple):
    """What a client was told, or what it has to take for certain when it was told nothing."""

    code: int
    outcome: int
    tx_id: str = ""
    block: int = 0
    cid: str = ""

    @classmethod
    def of(cls, receipt: Receipt, cid: str = "") -> Answer:
        return cls(receipt.code, receipt.outcome, receipt.tx_id, receipt.block, cid)

    @classmethod
    def failed(cls, error: MeshError) -> Answer:
        return cls(error.code, error.outcome)

    @property
    def unknown(self) -> bool:
        return self.outcome not in (code_pb2.OUTCOME_COMMITTED, code_pb2.OUTCOME_NOT_DONE)

    @property
    def name(self) -> str:
        """Such as `OK COMMITTED`."""
        outcome = code_pb2.Outcome.Name(code_pb2.Outcome.ValueType(self.outcome))
        return f"{name_of(self.code)} {outcome.removeprefix('OUTCOME_')}"


# Of a sending that was not done, these say nothing about the one before it.
_PASSING = frozenset(
    {
        code_pb2.CODE_DEADLINE_EXCEEDED,
        code_pb2.CODE_ENDORSEMENT_FAILED,
        code_pb2.CODE_RESOURCE_EXHAUSTED,
        code_pb2.CODE_UNAVAILABLE,
        code_pb2.CODE_UNAUTHENTICATED,
    }
)
GAVE_UP = Answer(code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.OUTCOME_UNKNOWN)


@dataclass
class Answers:
    """By the number of the submission. What is unknown keeps the submission, signed as it is."""

    load: Load
    sent: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Command id and signer."""
    answers: dict[int, Answer] = field(default_factory=dict)
    unknown: dict[int, Item] = field(default_factory=dict)
    first: Counter[str] = field(default_factory=Counter)
    """How often each was the first answer."""
    held_back: int = 0
    """Never sent: the client had too much open."""

    def begin(self, item: Item) -> None:
        self.sent[item.number] = item.command_id, item.signer
        # Until it is told otherwise.
        self.unknown[item.number] = item

    def note(self, item: Item, answer: Answer) -> None:
        """The first answer."""
        self.first[answer.name] += 1
        self._keep(item, answer)

    def settle(self, item: Item, answer: Answer) -> None:
        """The answer to what was sent again: what stands, or a refusal that holds for every sending."""
        if answer.outcome == code_pb2.OUTCOME_COMMITTED or answer.code not in _PASSING:
            self._keep(item, answer)

    def _keep(self, item: Item, answer: Answer) -> None:
        self.answers[item.number] = answer
        if not answer.unknown:
            self.unknown.pop(item.number, None)

    @property
    def ok(self) -> int:
        """How many were told OK."""
        return self.first[f"OK {code_pb2.Outcome.Name(code_pb2.OUTCOME_COMMITTED).removeprefix('OUTCOME_')}"]


@dataclass
class Application:
    """Calls `Submit` for each record, and gives up at the deadline of its client."""

    client: Client
    answers: Answers
    every_seconds: float = 0.0
    open: int = 0

    async def send(self, items: Sequence[Item]) -> None:
        await asyncio.gather(*(self._call(item) for item in items))

    async def _call(self, item: Item) -> None:
        if self.open >= _MOST_OPEN:
            self.answers.held_back += 1
            return
        self.open += 1
        self.answers.begin(item)
        try:
            self.answers.note(item, await self._answer(item))
        finally:
            self.open -= 1

    async def _answer(self, item: Item) -> Answer:
        parsed = gateway_pb2.IngestItem.FromString(item.message)
        try:
            request = gateway_pb2.SubmitRequest(group=parsed.group, contents=parsed.contents)
            # What the gateway says, unproven: the channel is asked afterwards whether it lied.
            [entry] = await carry(self.client.connection, request)
        except MeshError as error:
            return Answer.failed(error)
        return Answer.of(entry.receipt, entry.stored.cid)


@dataclass
class Engine:
    """Streams what is due together, and gives up on what has no result by the deadline of its client."""

    client: Client
    answers: Answers
    every_seconds: float = _BURST_SECONDS

    async def send(self, items: Sequence[Item]) -> None:
        for item in items:
            self.answers.begin(item)
        left = {item.submission_id: item for item in items}
        try:
            async with asyncio.timeout(self.client.connection.deadline_seconds):
                await stream(self.client, left, self.answers.note)
        except TimeoutError:
            for item in left.values():
                self.answers.note(item, GAVE_UP)


Sender = Application | Engine


async def stream(client: Client, left: dict[str, Item], note: Callable[[Item, Answer], None]) -> None:
    """Send by the SDK's stream; what was answered is taken out of `left` and noted, whatever it was."""
    prepared = [
        Prepared(
            NewRecord(item.patient, b"", item.record_id), gateway_pb2.IngestItem.FromString(item.message)
        )
        for item in left.values()
    ]
    names = {id(one.record): one.item.submission_id for one in prepared}
    try:
        async for written in client.records.send(prepared):
            item = left.pop(names[id(written.record)])
            told = written.told
            note(
                item,
                Answer.of(told.receipt, told.stored.cid)
                if told.HasField("receipt")
                else Answer.failed(written.error),
            )
    except MeshError as error:
        for item in list(left.values()):
            note(item, Answer.failed(error))
        left.clear()


async def carried_per_second(senders: Sequence[Sender], items: Sequence[Item], seconds: float) -> float:
    """What comes back OK in a second when each sender sends as fast as it is answered."""
    answers = senders[0].answers
    waiting = list(reversed(items))
    loop = asyncio.get_running_loop()
    before, begun = answers.ok, loop.time()

    async def one(sender: Sender, together: int) -> None:
        while loop.time() < begun + seconds and waiting:
            await sender.send([waiting.pop() for _ in range(min(together, len(waiting)))])

    async with asyncio.TaskGroup() as group:
        for sender in senders:
            for _ in range(_STREAMS if isinstance(sender, Engine) else _CALLS):
                group.create_task(one(sender, _TOGETHER if isinstance(sender, Engine) else 1))
    return (answers.ok - before) / (loop.time() - begun)


async def offer(load: Load, senders: Sequence[Sender], feeds: Sequence[Feed]) -> None:
    """Send what is due when it is due, however many are open; ends when each came back or was given up."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.TaskGroup() as group:

        async def one(sender: Sender, feed: Feed) -> None:
            while not feed.done:
                if due := feed.take_due(load, loop.time() - begun):
                    group.create_task(sender.send(due))
                await asyncio.sleep(max(sender.every_seconds, _TICK_SECONDS))

        for sender, feed in zip(senders, feeds, strict=True):
            group.create_task(one(sender, feed))


async def ask_again(items: Iterable[Item], clients: Sequence[Client], answers: Answers) -> None:
    """Send the very same once more, by streams of clients in turn, without a hurry."""
    waiting = list(items)
    portions = [waiting[at : at + _AGAIN_TOGETHER] for at in range(0, len(waiting), _AGAIN_TOGETHER)]

    async def one(client: Client, mine: Sequence[Sequence[Item]]) -> None:
        for portion in mine:
            await stream(client, {item.submission_id: item for item in portion}, answers.settle)

    await asyncio.gather(
        *(one(client, portions[place :: len(clients)]) for place, client in enumerate(clients))
    )
