"""What is remembered for a while: not too long, not too much, and not forgotten all at once."""

from services.runtime.ttl_cache import TtlCache

HOUR = 3_600.0


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_longest_unused_goes_when_there_are_too_many() -> None:
    memory: TtlCache[str, int] = TtlCache(2)
    memory.put("first", 1)
    memory.put("second", 2)
    assert memory.get("first") == 1
    memory.put("third", 3)
    assert (memory.get("first"), memory.get("second"), memory.get("third")) == (1, None, 3)
    assert len(memory) == 2


def test_an_entry_lasts_its_time_to_the_second_and_anew_when_it_is_put_again() -> None:
    clock = Clock()
    memory: TtlCache[str, int] = TtlCache(10, seconds=HOUR, clock=clock)
    memory.put("known", 1)
    clock.now = HOUR
    assert memory.get("known") == 1
    clock.now = HOUR + 1
    assert memory.get("known") is None
    memory.put("known", 2)
    clock.now = 2 * HOUR + 1
    assert memory.get("known") == 2


def test_who_wants_it_fresher_does_not_make_others_forget_it() -> None:
    clock = Clock()
    memory: TtlCache[str, int] = TtlCache(10, clock=clock)
    memory.put("known", 1)
    clock.now = 10.0
    assert memory.get("known", 9.0) is None
    assert memory.get("known", 10.0) == 1
    assert memory.get("known") == 1


def test_what_was_put_together_is_forgotten_bit_by_bit_and_never_too_late() -> None:
    clock = Clock()
    memory: TtlCache[int, int] = TtlCache(1_000, seconds=HOUR, spread=True, clock=clock)
    for number in range(1_000):
        memory.put(number, number)

    def known() -> int:
        return sum(memory.get(number) is not None for number in range(1_000))

    clock.now = 0.74 * HOUR
    assert known() == 1_000
    clock.now = 0.875 * HOUR
    assert 300 < known() < 700
    clock.now = HOUR + 1
    assert known() == 0
