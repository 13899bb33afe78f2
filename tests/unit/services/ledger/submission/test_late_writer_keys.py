"""A custodian that was away gets the writer keys of meanwhile; who stays away keeps nobody waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import pytest

import fabric_gateway as fabric
from cbmdhi.command.v1 import state_pb2
from cbmdhi.protocol.state_keys import late_key_key, sealed_writer_key_name
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.late_writer_keys import LateWriterKeys
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_channel import LAKESIDE, MERCY, FakeEndorsed, World, endorse_error

NORTHGATE = "NorthgateMSP"
AT_ONCE = 100


def late_key(custodian: str, number: int = 0) -> state_pb2.SealedKey:
    return state_pb2.SealedKey(
        msp=custodian, key=sealed_writer_key_name(MERCY, f"{number:05}"), sealed=b"sealed"
    )


@dataclass
class Custodians(World):
    """A channel on which keys wait for custodians, of whom some are away.

    gone  those of which the own peer has a note alone
    """

    waiting: list[state_pb2.SealedKey] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    questions: int = 0
    away: set[str] = field(default_factory=set)
    tried: Counter[str] = field(default_factory=Counter)

    async def members(self) -> tuple[str, ...]:
        return (LAKESIDE, MERCY, NORTHGATE)

    async def query(self, query: bytes) -> bytes:
        self._answer_or_be_down()
        self.questions += 1
        asked = state_pb2.Query.FromString(query).get_late_keys
        late = [
            key
            for key in sorted(self.still_waiting(), key=self._note)
            if asked.custodian in ("", key.msp) and self._note(key) > asked.after
        ][:AT_ONCE]
        return state_pb2.QueryResult(
            late_keys=state_pb2.SealedKeys(keys=[key for key in late if key.key not in self.gone]),
            late_keys_after=self._note(late[-1]) if len(late) == AT_ONCE else "",
        ).SerializeToString()

    async def deliver(self, late_keys: Sequence[state_pb2.SealedKey]) -> FakeEndorsed:
        [custodian] = {key.msp for key in late_keys}
        self.tried[custodian] += 1
        if custodian in self.away:
            raise endorse_error(grpc.StatusCode.ABORTED, "connection refused")
        tx_id = f"{custodian} {self.tried[custodian]}"
        return FakeEndorsed(self, tx_id, b"", b"", {self._note(key): b"" for key in late_keys})

    def still_waiting(self) -> list[state_pb2.SealedKey]:
        return [key for key in self.waiting if self._note(key) not in self.state]

    def _note(self, key: state_pb2.SealedKey) -> str:
        return late_key_key(MERCY, key.msp, key.key.rpartition("/")[2])


@pytest.fixture
def channel() -> Custodians:
    return Custodians()


@pytest.fixture
def metrics() -> LedgerMetrics:
    return LedgerMetrics(Metrics("ledger"))


@pytest.fixture
def late_keys(channel: Custodians, metrics: LedgerMetrics) -> LateWriterKeys:
    return LateWriterKeys(channel, metrics)


def told(metrics: LedgerMetrics) -> float:
    return metrics.late_keys._value.get()


async def test_nothing_that_is_late_costs_one_question(
    channel: Custodians, late_keys: LateWriterKeys
) -> None:
    await late_keys.look()

    assert channel.questions == 1
    assert not channel.tried


async def test_a_custodian_that_is_there_gets_all_that_waits_for_it(
    channel: Custodians, late_keys: LateWriterKeys, metrics: LedgerMetrics
) -> None:
    channel.waiting = [late_key(LAKESIDE, number) for number in range(AT_ONCE + 1)]

    await late_keys.look()

    assert not channel.still_waiting()
    assert channel.tried == {LAKESIDE: 2}
    assert told(metrics) == 0


async def test_what_the_own_peer_has_lost_keeps_nothing_behind_it_from_anybody(
    channel: Custodians, late_keys: LateWriterKeys, metrics: LedgerMetrics
) -> None:
    channel.waiting = [late_key(LAKESIDE, number) for number in range(2 * AT_ONCE)]
    channel.gone = {key.key for key in channel.waiting}
    channel.waiting += [late_key(LAKESIDE, 2 * AT_ONCE), late_key(NORTHGATE, 2 * AT_ONCE)]

    await late_keys.look()

    assert {key.key for key in channel.still_waiting()} == channel.gone
    assert told(metrics) == 0


async def test_however_much_is_lost_a_look_asks_a_bounded_number_of_times_and_the_next_goes_on(
    channel: Custodians, late_keys: LateWriterKeys
) -> None:
    channel.waiting = [late_key(LAKESIDE, number) for number in range(35 * AT_ONCE)]
    channel.gone = {key.key for key in channel.waiting}
    channel.waiting.append(late_key(LAKESIDE, 35 * AT_ONCE))
    looks = 0

    while len(channel.still_waiting()) > len(channel.gone) and looks < 10:
        before, looks = channel.questions, looks + 1
        await late_keys.look()
        assert channel.questions - before <= 50

    assert {key.key for key in channel.still_waiting()} == channel.gone


async def test_who_is_away_keeps_nothing_from_the_others_and_is_asked_less_and_less_often(
    channel: Custodians, late_keys: LateWriterKeys, metrics: LedgerMetrics
) -> None:
    channel.waiting = [late_key(LAKESIDE), late_key(NORTHGATE)]
    channel.away = {LAKESIDE}
    rounds: list[int] = []

    for number in range(60):
        before = channel.tried[LAKESIDE]
        await late_keys.look()
        if channel.tried[LAKESIDE] > before:
            rounds.append(number)

    assert rounds == [0, 2, 6, 13, 20, 27, 34, 41, 48, 55]
    assert channel.tried[NORTHGATE] == 1
    assert channel.still_waiting() == [late_key(LAKESIDE)]
    assert told(metrics) == 1


async def test_who_is_back_gets_it_and_is_asked_at_once_the_next_time(
    channel: Custodians, late_keys: LateWriterKeys, metrics: LedgerMetrics
) -> None:
    channel.waiting, channel.away = [late_key(LAKESIDE)], {LAKESIDE}
    for _ in range(3):
        await late_keys.look()
    channel.away.clear()

    for _ in range(4):
        await late_keys.look()

    assert not channel.still_waiting()
    assert told(metrics) == 0
    channel.waiting.append(late_key(LAKESIDE, 1))
    await late_keys.look()
    assert not channel.still_waiting()


async def test_a_delivery_that_another_replica_was_quicker_with_is_made_once(
    channel: Custodians, late_keys: LateWriterKeys
) -> None:
    channel.waiting = [late_key(LAKESIDE)]
    channel.verdicts.append(fabric.MVCC_READ_CONFLICT)
    await late_keys.look()
    assert channel.still_waiting()

    for _ in range(2):
        await late_keys.look()

    assert not channel.still_waiting()
    assert len(channel.chain) == 3


async def test_while_the_own_peer_is_away_it_waits_and_goes_on_then(
    channel: Custodians, metrics: LedgerMetrics
) -> None:
    channel.waiting, channel.down = [late_key(LAKESIDE)], True
    rounds = 0

    async def sleep(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        channel.down = rounds < 3
        if rounds == 4:
            raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        await LateWriterKeys(channel, metrics, sleep).run()

    assert not channel.still_waiting()
