"""What may be asked about emergencies."""

from typing import Any, cast

import pytest

from services.storage.emergency.queries import EmergencyQueries

NOW_MS = 1_800_000_000_000


class State:
    """The own peer's state: the newest minute that the channel has told."""

    def __init__(self, newest: int) -> None:
        self.newest = newest

    async def newest_epoch(self) -> int:
        return self.newest


@pytest.mark.parametrize(("minutes_ago", "stands_still"), [(0, False), (1, False), (2, True)])
async def test_the_channel_stands_still_when_a_minute_has_passed_untold(
    minutes_ago: int, stands_still: bool
) -> None:
    newest = NOW_MS // 60_000 - minutes_ago
    nobody = cast(Any, None)
    queries = EmergencyQueries(nobody, cast(Any, State(newest)), nobody, lambda: NOW_MS)
    told = await queries.standstill()
    assert (told.stands_still, told.newest_epoch) == (stands_still, newest)
