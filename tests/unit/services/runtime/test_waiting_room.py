import asyncio
import math

import pytest

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.runtime.waiting_room import Waiting, WaitingRoom


def waiting(item: str, caller: str = "", *, ends_at: float = math.inf, weight: int = 1) -> Waiting[str, None]:
    one: Waiting[str, None] = Waiting(loop=asyncio.get_running_loop())
    one.item, one.size, one.weight, one.key = item, len(item), weight, (caller, "")
    one.since, one.ends_at, one.span = 0.0, ends_at, None
    return one


async def test_what_waits_is_counted_by_its_weight_in_all_and_of_each() -> None:
    room: WaitingRoom[str, None] = WaitingRoom(5, most_of_caller=4, most_of_key=3)
    room.add(waiting("a group", "anna", weight=3))

    assert "same person" in room.lacks_key(("anna", ""), 1)
    assert "caller" in room.lacks("anna", 2)
    assert "full" in room.lacks("ben", 3)
    assert room.lacks("ben", 2) == ""


async def test_a_batch_takes_what_fits_and_what_was_given_up_makes_room() -> None:
    room: WaitingRoom[str, None] = WaitingRoom(10)
    items = [waiting(item) for item in ("one", "two", "three", "four")]
    for item in items:
        room.add(item)
    items[0].cancel()

    taken = room.take(0.0, max_count=3, max_bytes=8)

    assert ([one.item for one in taken], len(room), room.bytes) == (["two", "three"], 1, 4)
    assert all(one.taken for one in taken)
    assert room.oldest.item == "four"


async def test_what_is_too_late_is_told_that_nothing_was_done() -> None:
    room: WaitingRoom[str, None] = WaitingRoom(10)
    late = waiting("late", ends_at=1.0)
    room.add(late)

    assert room.take(1.0, max_count=3, max_bytes=100) == []

    with pytest.raises(MeshError) as caught:
        late.result()
    assert (caught.value.code, caught.value.nothing_done) == (code_pb2.CODE_DEADLINE_EXCEEDED, True)
