"""An id says when it was made, and is greater than every earlier one of its process, in any hurry."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cbmdhi.protocol import ids

NOW_MS = 1_800_000_000_007


class Chance:
    """A clock that somebody sets, and the greatest number whenever one is drawn."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def time_ns(self) -> int:
        return self.ms * 1_000_000

    def randbits(self, bits: int) -> int:
        return (1 << bits) - 1


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> Chance:
    chance = Chance()
    monkeypatch.setattr(ids, "time", SimpleNamespace(time_ns=chance.time_ns))
    monkeypatch.setattr(ids, "secrets", SimpleNamespace(randbits=chance.randbits))
    monkeypatch.setattr(ids, "_CLOCK", ids._Clock())  # pyright: ignore[reportPrivateUsage]
    return chance


def ms_of(made: str) -> int:
    return int(made[:8] + made[9:13], 16)


def count_of(made: str) -> int:
    return int(made[15:18], 16)


def test_the_first_id_of_a_process_is_of_now(chance: Chance) -> None:
    made = ids.uuid7()
    assert (ms_of(made), count_of(made)) == (NOW_MS, 2_047)
    chance.ms = 1
    monotone = ids.uuid7()
    assert (ms_of(monotone), count_of(monotone)) == (NOW_MS, 2_048)


def test_a_process_that_starts_with_the_epoch_draws_its_counter_too(chance: Chance) -> None:
    chance.ms = 1
    assert count_of(ids.uuid7()) == 2_047


def test_ids_of_one_millisecond_are_counted_and_then_taken_from_the_next(chance: Chance) -> None:
    made = [ids.uuid7() for _ in range(2_050)]
    assert [count_of(one) for one in made] == [*range(2_047, 4_096), 0]
    assert [ms_of(one) for one in made] == [NOW_MS] * 2_049 + [NOW_MS + 1]
    chance.ms = NOW_MS + 1
    assert count_of(ids.uuid7()) == 1
    chance.ms = NOW_MS + 2
    assert (ms_of(made := ids.uuid7()), count_of(made)) == (NOW_MS + 2, 2_047)
