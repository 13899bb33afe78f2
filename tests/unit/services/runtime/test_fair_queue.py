"""Turns: whose item is next, and what large items cost whoever brings them."""

from collections import Counter

import pytest

from services.runtime.fair_queue import FairQueue


def taken(queue: FairQueue[str], count: int) -> list[str]:
    return [queue.pop() for _ in range(count)]


def test_callers_take_turns_however_many_items_each_has() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.push(("many", ""), f"many{number}")
    assert queue.pop() == "many0"
    queue.push(("one", ""), "one")

    assert "one" in taken(queue, 2)


def test_who_brings_groups_of_128_gets_no_more_than_who_brings_single_records() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push(("groups", ""), "group", 128)
    for _ in range(2_000):
        queue.push(("singles", ""), "single")

    shares = Counter(taken(queue, 1_032))

    assert shares["group"] * 128 == shares["single"] == 1_024


def test_who_comes_back_with_one_group_at_a_time_owes_what_it_took() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(1_000):
        queue.push(("singles", ""), "single")
    shares: Counter[str] = Counter()
    queue.push(("groups", ""), "group", 128)
    while shares["single"] < 512:
        next_one = queue.pop()
        shares[next_one] += 1
        if next_one == "group":
            queue.push(("groups", ""), "group", 128)

    assert shares["group"] <= 5


def test_nobody_owes_anything_to_an_empty_queue() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push(("a", ""), "a", 1_000)
    assert queue.pop() == "a"
    with pytest.raises(IndexError):
        queue.peek()
    queue.push(("a", ""), "a", 1_000)
    queue.push(("b", ""), "b")

    assert sorted(taken(queue, 2)) == ["a", "b"]


def test_the_lanes_of_a_caller_take_turns_by_what_they_bring() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(10):
        queue.push(("ward", "large"), "large", 10)
    for _ in range(50):
        queue.push(("ward", "small"), "small")

    shares = Counter(taken(queue, 33))

    assert shares["large"] * 10 == shares["small"] == 30


def test_items_of_one_key_keep_their_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(5):
        queue.push(("a", "lane"), str(number), number + 1)

    assert taken(queue, 5) == list("01234")
