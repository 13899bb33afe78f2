"""Three times what the mesh carries, with deadlines, while gateways are killed: what was said holds."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bench import replicas
from bench.load.plan import GOOD, Load
from bench.load.prepare import Preparer
from bench.load.prepared_queue import Stock
from bench.load.session import Session
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.waiting import until
from ops.devnet import Network
from tests.support.aftermath import Channel, Command, Held, channel_of, held_by
from tests.support.fabric_caller import MEMBERS
from tests.support.overload import (
    DEADLINE_SECONDS,
    Answer,
    Answers,
    Application,
    Engine,
    Sender,
    ask_again,
    carried_per_second,
    offer,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMES = 3
PEOPLE = Load(rate=1.0, seconds=1.0, users=4, streams=6, patients=24)
KILLED = ("mercy-gateway", "lakeside-gateway")
# One in fifty is bad, and its refusal has to be as certain as any.
BAD = 0.02


@dataclass(frozen=True)
class Span:
    """How long each part takes, in seconds. `measured`: records signed to find out what is carried."""

    measuring: float
    measured: int
    overload: float
    between_kills: float


SHORT = Span(measuring=3.0, measured=3_000, overload=15.0, between_kills=6.0)
LONG = Span(measuring=6.0, measured=6_000, overload=300.0, between_kills=30.0)


@dataclass
class Kills:
    """Gateways that were killed, one after the other, and started again by their supervisor."""

    network: Network
    pids: list[int] = field(default_factory=list)

    async def go_on(self, every_seconds: float) -> None:
        for program in itertools.cycle(KILLED):
            await asyncio.sleep(every_seconds)
            self.pids.append(await asyncio.to_thread(self.network.kill, program))


@pytest.fixture(scope="module")
def second_gateway(network: Network) -> Iterator[str]:
    """Another gateway of mercy's, before the same ledger service and storage: its address."""
    spare = replicas.Spare(network.ports().base + replicas.FIRST_SPARE_PORT)
    config = network.files.organisation("mercy").service("gateway") / "config.toml"
    with replicas.replica(network.home, "gateway", config, 2, spare) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def session(network: Network) -> AsyncIterator[Session]:
    async with Session(network.home, PEOPLE) as session:
        yield session


# Two thirds of what is offered is unknown to those who gave up, and all of that is asked about again.
@pytest.mark.timeout(1800)
async def test_what_was_said_under_overload_with_gateways_killed_is_what_stands_at_both_members(
    network: Network, session: Session, second_gateway: str, long: bool, figures: Path | None, capsys: Any
) -> None:
    span = LONG if long else SHORT
    async with AsyncExitStack() as clients:
        sending, asking = [
            [
                await clients.enter_async_context(client)
                for client in at_all_gateways(session, second_gateway, seconds)
            ]
            for seconds in (DEADLINE_SECONDS, 60.0)
        ]
        # In no hurry: what is carried is not what is carried in time.
        _, warm = await measured(session, asking, span)
        carried, measuring = await measured(session, asking, span)
        load = replace(PEOPLE, rate=TIMES * carried, seconds=span.overload, bad=BAD)
        answers, kills = Answers(load), Kills(network)
        took = await overloaded(session, senders(sending, answers), load, kills, span)
        await asyncio.to_thread(network.wait_ready)

        in_time = Counter(answers.first)
        was_unknown = dict(answers.unknown)
        asked_at = time.monotonic()
        for every in (warm, measuring, answers):
            await until(
                lambda every=every: asked_again(every, asking),
                # All that clients gave up on is good for five minutes, and carried when it is asked about;
                # what is about to end then is asked about once more.
                "each unknown outcome is known",
                deadline_seconds=900,
            )
        asking_took = time.monotonic() - asked_at

    channels = [await channel_of(network, member) for member in MEMBERS]
    for channel in channels:
        for every in (warm, measuring, answers):
            holds(every, channel)
    holdings = [await held_by(network, member) for member in MEMBERS]
    report = {
        "carried_per_second": round(carried),
        "offered_per_second": round(load.rate),
        "seconds": round(took, 1),
        "due": load.operations,
        "sent": len(answers.sent),
        "never_sent_by_a_client_with_too_much_open": answers.held_back,
        "first_answers": dict(in_time),
        "ok_per_second": round(answers.ok / took),
        "unknown": len(was_unknown),
        "resolved": dict(Counter(answers.answers[number].name for number in was_unknown)),
        "resolved_in_seconds": round(asking_took, 1),
        "kills": len(kills.pids),
        "blocks": channels[0].height,
        "records_on_the_channel": len(channels[0].records),
        "held": {held.msp: counts(held) for held in holdings},
    }
    if figures is not None:
        write(report, figures)
    if long:
        with capsys.disabled():
            print(json.dumps(report, indent=2))

    for held, channel in zip(holdings, channels, strict=True):
        assert not held.missing(channel)
    if any(held.orphans(channel) for held, channel in zip(holdings, channels, strict=True)):
        # Storage may have been in the middle of it.
        await until(
            lambda: nothing_is_nobodys(network),
            "no blob is without a commit or a lease",
            deadline_seconds=60,
            every_seconds=1,
        )
    # That none of it was idle: gateways died, calls were given up, some were refused and some were done.
    assert len(kills.pids) >= span.overload // span.between_kills - 1
    assert was_unknown
    assert answers.ok


def counts(held: Held) -> dict[str, int]:
    return {
        "pinned_roots": len(held.pinned),
        "pinned_blocks": len(held.blocks),
        "leases": len(held.leases),
        "waiting_for_collection": len(held.waiting),
        "blocks_on_disk": len(held.on_disk),
    }


def write(report: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overload.json").write_text(json.dumps(report, indent=2) + "\n")


def at_all_gateways(session: Session, second_gateway: str, deadline_seconds: float) -> list[Client]:
    """Two clients of each of the three gateways, in turn."""
    places = [("mercy", ""), ("mercy", second_gateway), ("lakeside", "")]
    return [
        Client(
            replicas.pointed(carrier.wallet, address) if address else carrier.wallet,
            member,
            deadline_seconds,
        )
        for carrier, (member, address) in zip(session.cast.carriers, places * 2, strict=True)
    ]


def senders(clients: Sequence[Client], answers: Answers) -> list[Sender]:
    """At each gateway an application that calls and an engine that streams."""
    half = len(clients) // 2
    return [
        *(Application(client, answers) for client in clients[:half]),
        *(Engine(client, answers) for client in clients[half:]),
    ]


async def measured(session: Session, clients: Sequence[Client], span: Span) -> tuple[float, Answers]:
    """What the mesh carries for these clients when none sends before the last was answered."""
    load = replace(PEOPLE, rate=1e5, seconds=span.measured / 1e5)
    recipe = replace(session.recipe(load), start_ms=time.time_ns() // 1_000_000)
    items = await asyncio.to_thread(Preparer(recipe).items, range(load.operations))
    answers = Answers(load)
    carried = await carried_per_second(senders(clients, answers), items, span.measuring)
    return carried, answers


async def overloaded(
    session: Session, sending: Sequence[Sender], load: Load, kills: Kills, span: Span
) -> float:
    """Offer the load; how long it took, in seconds."""
    async with Stock(session.recipe(load), load.operations, len(sending)) as stock:
        await stock.fill()
        begun = time.monotonic()
        beside = [
            asyncio.create_task(stock.top_up()),
            asyncio.create_task(kills.go_on(span.between_kills)),
        ]
        try:
            await offer(load, sending, stock.feeds)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        return time.monotonic() - begun


async def asked_again(answers: Answers, clients: Sequence[Client]) -> bool:
    """Whether nothing is unknown after the unknown was sent again, in turn to all gateways."""
    await ask_again(list(answers.unknown.values()), clients, answers)
    return not answers.unknown


def holds(answers: Answers, channel: Channel) -> None:
    """Each answer against what the member's peer holds."""
    said: dict[Command, list[tuple[int, Answer]]] = defaultdict(list)
    for number, answer in answers.answers.items():
        said[answers.sent[number]].append((number, answer))
    for command, told in said.items():
        stands = channel.verdicts.get(command, [])
        assert len(stands) <= 1, f"a command had {len(stands)} effects"
        committed = [answer for _, answer in told if answer.outcome == code_pb2.OUTCOME_COMMITTED]
        if not committed:
            # Of those that say so, all of this command's sendings did nothing.
            assert not stands, f"it was said that nothing was done ({told}), and it stands: {stands}"
        for answer in committed:
            assert stands, f"a receipt says {answer.name}, and nothing stands"
            [verdict] = stands
            assert (answer.code, answer.tx_id, answer.block) == verdict[:3]
            assert answer.code != code_pb2.CODE_OK or answer.cid == verdict.cid
        for number, answer in told:
            if answers.load.kind(number) == GOOD:
                assert answer.code == code_pb2.CODE_OK or answer not in committed, answer
    assert set(channel.records.values()) == {1}


async def nothing_is_nobodys(network: Network) -> bool:
    for member in MEMBERS:
        held: Held = await held_by(network, member)
        if held.orphans(await channel_of(network, member)):
            return False
    return True
