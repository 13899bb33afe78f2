"""A place in an inbox that was put back since, from a copy or from the channel: nobody misses anything."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from cbmdhi.notify.v1 import notify_pb2
from services.notify.inbox import Inbox
from services.notify.notices import Notice
from services.notify.schema import MIGRATIONS
from services.runtime.sqlite import Database
from tests.support.fakes.notify_events import PATIENT
from tests.unit.services.notify.test_asks import Mercy


@asynccontextmanager
async def running(file: Path) -> AsyncIterator[Mercy]:
    async with Database(file, MIGRATIONS) as database:
        yield Mercy(Inbox(database))


async def hears(mercy: Mercy, after: int, *numbers: int) -> None:
    """Whoever goes on from there is told of all these, in this order, perhaps of others before."""
    request = mercy.signed(notify_pb2.StreamRequest(after=after))
    stream = mercy.servicer.Stream(request, mercy.gateway.says(PATIENT))
    missing = [f"tx-{number}" for number in numbers]
    async with aclosing(stream) as answers, asyncio.timeout(20):  # type: ignore[type-var]
        while missing:
            if (await anext(answers)).notification.tx_id == missing[0]:
                del missing[0]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


async def test_what_is_told_after_an_inbox_was_put_back_from_a_copy_reaches_who_was_further(
    tmp_path: Path, copy: Path
) -> None:
    async with running(tmp_path / "inbox.db") as mercy:
        await mercy.tell(1)
    shutil.copy(tmp_path / "inbox.db", copy)
    async with running(tmp_path / "inbox.db") as mercy:
        await mercy.tell(2)
        place = await mercy.tell(3)

    async with running(copy) as mercy:
        # An inbox may be told of the same in another order, when what is not of the channel comes between.
        await mercy.tell(4)
        await mercy.tell(3)
        await mercy.tell(2)
        await mercy.tell(5)
        await hears(mercy, place, 4, 3, 2, 5)


async def test_who_listens_while_a_copied_inbox_catches_up_hears_all_of_it(
    tmp_path: Path, copy: Path
) -> None:
    async with running(tmp_path / "inbox.db") as mercy:
        await mercy.tell(1)
    shutil.copy(tmp_path / "inbox.db", copy)
    async with running(tmp_path / "inbox.db") as mercy:
        place = await mercy.tell(2)

    async with running(copy) as mercy:
        listening = asyncio.ensure_future(hears(mercy, place, 4, 2, 5))
        for number in (4, 2, 5):
            await mercy.tell(number)
        await listening


async def test_an_inbox_that_was_built_anew_tells_whoever_goes_on_of_everything_again(
    tmp_path: Path, copy: Path
) -> None:
    async with running(tmp_path / "inbox.db") as mercy:
        await mercy.tell(1)
        place = await mercy.tell(2)

    async with running(copy) as mercy:
        for number in range(1, 6):
            await mercy.tell(number)
        await mercy.inbox.acknowledge(PATIENT, [await mercy.tell(6)])
        await hears(mercy, place, 1, 2, 3, 4, 5, 6)


async def test_ids_grow_though_the_clock_is_set_back(tmp_path: Path) -> None:
    now_us = 2_000_000
    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        inbox = Inbox(database, lambda: now_us)
        notices = [
            Notice(owner=PATIENT, kind="break-glass", tx_id=str(n), block=n, at_ms=1) for n in range(4)
        ]
        first, second = await inbox.keep(notices[:2], [], 1)
        now_us = 1_000_000
        (third,) = await inbox.keep(notices[2:3], [], 2)
        now_us = 3_000_000
        (fourth,) = await inbox.keep(notices[3:], [], 3)

    ids = [one.notification_id for one in (first, second, third, fourth)]
    assert ids == [2_000_001, 2_000_002, 2_000_003, 3_000_001]
