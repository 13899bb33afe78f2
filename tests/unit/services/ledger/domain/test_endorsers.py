"""Who endorses: a majority, whoever is there, and those whose private data travels with the batch."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbmdhi.command.v1 import code_pb2
from services.ledger.domain.endorsers import Endorsers, Holders, is_absence

TWO = ("LakesideMSP", "MercyMSP")
THREE = ("LakesideMSP", "MercyMSP", "NorthgateMSP")
LAKESIDE, MERCY, NORTHGATE = THREE


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endorsers(clock: Clock) -> Endorsers:
    return Endorsers(MERCY, clock)


def test_of_two_members_both_endorse(endorsers: Endorsers) -> None:
    assert set(endorsers.choose(TWO)) == set(TWO)


def test_of_three_the_own_member_and_the_others_by_turns(endorsers: Endorsers) -> None:
    chosen = [endorsers.choose(THREE) for _ in range(4)]

    assert chosen == [(MERCY, LAKESIDE), (MERCY, NORTHGATE)] * 2


def test_whoever_did_not_answer_is_passed_over_until_it_may_be_back(
    endorsers: Endorsers, clock: Clock
) -> None:
    endorsers.failed((MERCY, LAKESIDE), {LAKESIDE})

    assert {endorsers.choose(THREE) for _ in range(5)} == {(MERCY, NORTHGATE)}
    clock.seconds = 2.1
    assert LAKESIDE in endorsers.choose(THREE)


def test_who_stays_away_is_tried_less_and_less_often_and_at_once_when_it_has_answered(
    endorsers: Endorsers, clock: Clock
) -> None:
    waits: list[float] = []
    for _ in range(7):
        endorsers.failed((MERCY, LAKESIDE), {LAKESIDE})
        since = clock.seconds
        while endorsers.is_unavailable(LAKESIDE):
            clock.seconds += 1
        waits.append(clock.seconds - since)
    assert waits == [2, 4, 8, 16, 30, 30, 30]

    endorsers.answered((MERCY, LAKESIDE))
    endorsers.failed((MERCY, LAKESIDE), {LAKESIDE})
    clock.seconds += 2
    assert not endorsers.is_unavailable(LAKESIDE)


def test_when_nobody_is_named_all_others_that_were_asked_are_suspected(endorsers: Endorsers) -> None:
    endorsers.failed((MERCY, LAKESIDE))

    assert endorsers.is_unavailable(LAKESIDE)
    assert not endorsers.is_unavailable(MERCY)
    assert endorsers.choose(THREE) == (MERCY, NORTHGATE)


def test_of_those_who_were_asked_only_the_named_are_suspected(endorsers: Endorsers) -> None:
    endorsers.failed(THREE, {LAKESIDE})

    assert endorsers.is_unavailable(LAKESIDE)
    assert not endorsers.is_unavailable(NORTHGATE)


def test_a_failure_that_names_somebody_who_was_not_asked_suspects_those_who_were(
    endorsers: Endorsers,
) -> None:
    endorsers.failed((MERCY, LAKESIDE), {"OrderingMSP", ""})

    assert endorsers.is_unavailable(LAKESIDE)


def test_who_is_away_is_asked_all_the_same_when_a_majority_needs_it(endorsers: Endorsers) -> None:
    endorsers.failed((MERCY, LAKESIDE), {LAKESIDE})

    assert set(endorsers.choose(TWO)) == set(TWO)


def test_custodians_endorse_what_brings_them_a_key(endorsers: Endorsers) -> None:
    assert set(endorsers.choose(THREE, Holders(wanted=frozenset({LAKESIDE, NORTHGATE})))) == set(THREE)


def test_a_custodian_that_is_away_does_not_stop_a_record_under_a_new_writer_key(endorsers: Endorsers) -> None:
    endorsers.failed((MERCY, LAKESIDE), {LAKESIDE})

    assert endorsers.choose(THREE, Holders(wanted=frozenset({MERCY, LAKESIDE}))) == (MERCY, NORTHGATE)


def test_a_custodian_of_a_record_key_is_asked_even_while_it_is_away(endorsers: Endorsers) -> None:
    endorsers.failed((MERCY, LAKESIDE), {LAKESIDE})

    assert endorsers.choose(THREE, Holders(needed=frozenset({MERCY, LAKESIDE}))) == (MERCY, LAKESIDE)


@given(
    members=st.sets(st.sampled_from("ABCDEFG"), min_size=1).map(lambda found: tuple(sorted({"A", *found}))),
    away=st.sets(st.sampled_from("BCDEFG")),
    needed=st.frozensets(st.sampled_from("ABCDEFG"), max_size=3),
    wanted=st.frozensets(st.sampled_from("ABCDEFG"), max_size=3),
)
def test_it_is_always_a_majority_with_the_own_member_and_whoever_is_needed(
    members: tuple[str, ...], away: set[str], needed: frozenset[str], wanted: frozenset[str]
) -> None:
    endorsers = Endorsers("A", Clock())
    for msp in away:
        endorsers.failed((msp,))

    chosen = endorsers.choose(members, Holders(needed, wanted))

    assert len(chosen) == len(set(chosen)) > len(members) // 2
    assert chosen[0] == "A"
    assert set(members) >= set(chosen) >= needed & set(members)
    present = set(members) - away
    assert set(chosen) >= wanted & present
    if len(present | needed & set(members)) > len(members) // 2:
        assert not (set(chosen) & away) - needed


def test_a_member_whose_clock_or_peer_is_behind_is_as_good_as_away_but_not_when_we_are() -> None:
    assert is_absence(None, own_failed=True)
    assert is_absence(code_pb2.CODE_UNAVAILABLE, own_failed=False)
    assert not is_absence(code_pb2.CODE_UNAVAILABLE, own_failed=True)
    assert not is_absence(code_pb2.CODE_INVALID, own_failed=False)
