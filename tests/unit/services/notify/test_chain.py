"""The inbox's file: what it gives back whatever was acknowledged, came again, or was there before."""

import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol.ids import uuid7
from services.notify.inbox import Inbox
from services.notify.notices import Notice, Notification
from services.notify.schema import MIGRATIONS
from services.runtime.sqlite import Database
from tests.support.fakes.notify_events import CLINICIAN, MERCY_ADMIN, MERCY_OFFICER, PATIENT

OWNERS = (PATIENT, CLINICIAN, MERCY_ADMIN)


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Inbox]:
    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        yield Inbox(database, lambda: 0)  # ids 1, 2, 3, …


def notice(number: int, owner: str = PATIENT, **more: object) -> Notice:
    """Three to a transaction, three transactions to a block."""
    tx, block = number // 3, number // 9
    values = {"tx_id": f"tx-{tx}", "command_id": f"command-{number}", "at_ms": 1_000 * tx, **more}
    return Notice(owner, "record.written", block=block, **values)  # type: ignore[arg-type]


async def commands(inbox: Inbox, owner: str = PATIENT, *, unseen: bool = False) -> list[str]:
    """Of a whole inbox, newest first, page by page."""
    found: list[Notification] = []
    before: int | None = None
    while page := await inbox.newest(owner, before=before, limit=2, unacknowledged_only=unseen):
        found += page
        before = page[-1].notification_id
    return [one.notice.command_id for one in found]


async def unseen_in_order(inbox: Inbox, owner: str = PATIENT) -> list[str]:
    return [one.notice.command_id async for one in inbox.unacknowledged(owner)]


async def test_a_notice_comes_back_as_it_went_in_whatever_its_ids_look_like(inbox: Inbox) -> None:
    full = Notice(
        owner=PATIENT,
        kind="break-glass.reviewed",
        tx_id="ab" * 32,
        block=7,
        at_ms=1_760_000_000_000,
        actor=MERCY_OFFICER,
        actor_msp="MercyMSP",
        record_id=uuid7(),
        version=3,
        category="laboratory",
        purpose="TREAT",
        consent_id=uuid7().upper(),
        code=code_pb2.CODE_FORBIDDEN,
        command_id="no uuid at all",
        subject=CLINICIAN,
    )
    earlier = full._replace(owner=CLINICIAN, at_ms=full.at_ms - 5_000, record_id="", command_id=uuid7())

    kept = await inbox.keep([full, earlier], [], 1)

    for one in kept:
        page = await inbox.newest(one.notice.owner, before=None, limit=9, unacknowledged_only=False)
        assert page == [one]
    assert [one.notice for one in kept] == [full, earlier]


async def test_of_what_comes_again_in_another_order_and_company_only_what_is_new_is_kept(
    inbox: Inbox,
) -> None:
    await inbox.keep([notice(3), notice(4)], [], 1)
    await inbox.keep([notice(0), notice(1)], [], 1)

    again = await inbox.keep([notice(4), notice(2), notice(1), notice(2), notice(5), notice(3)], [], 1)
    third = await inbox.keep([notice(number) for number in range(6)], [], 1)

    assert [one.notice for one in again] == [notice(2), notice(5)]
    assert third == []
    assert await commands(inbox) == [f"command-{number}" for number in (5, 2, 1, 0, 4, 3)]


async def test_notices_of_one_command_to_two_people_or_of_two_kinds_are_not_the_same(inbox: Inbox) -> None:
    different = [notice(1), notice(1, CLINICIAN), notice(1)._replace(kind="consent.given")]
    different.append(notice(1, actor=MERCY_ADMIN))

    assert len(await inbox.keep(different, [], 1)) == 4
    assert await inbox.keep(different, [], 1) == []


async def test_what_could_not_be_written_leaves_nothing_and_is_told_when_it_comes_again(inbox: Inbox) -> None:
    await inbox.keep([notice(0)], [], 1)
    with pytest.raises(sqlite3.Error):
        await inbox.keep([notice(1), notice(2, version=None)], [], 1)

    assert await commands(inbox) == ["command-0"]
    assert len(await inbox.keep([notice(1), notice(2)], [], 1)) == 2
    assert await commands(inbox) == ["command-2", "command-1", "command-0"]


async def test_acknowledging_one_leaves_what_is_older_and_newer_unseen(inbox: Inbox) -> None:
    ids = [one.notification_id for one in await inbox.keep([notice(number) for number in range(6)], [], 1)]

    assert await inbox.acknowledge(PATIENT, [ids[3]]) == 1
    assert await commands(inbox, unseen=True) == [f"command-{number}" for number in (5, 4, 2, 1, 0)]
    assert await inbox.acknowledge(PATIENT, [ids[1], ids[4]]) == 2
    assert await commands(inbox, unseen=True) == ["command-5", "command-2", "command-0"]
    assert await unseen_in_order(inbox) == ["command-0", "command-2", "command-5"]
    assert await inbox.acknowledge(PATIENT, ids) == 3
    assert await commands(inbox, unseen=True) == await unseen_in_order(inbox) == []


async def test_a_place_that_is_no_id_of_the_inbox_gives_what_is_below_it(inbox: Inbox) -> None:
    await inbox.keep([notice(0), notice(1, CLINICIAN), notice(2), notice(3)], [], 1)

    page = await inbox.newest(PATIENT, before=2, limit=9, unacknowledged_only=False)
    assert [one.notice.command_id for one in page] == ["command-0"]
    page = await inbox.newest(PATIENT, before=1_000, limit=2, unacknowledged_only=False)
    assert [one.notice.command_id for one in page] == ["command-3", "command-2"]
    assert await inbox.newest(MERCY_ADMIN, before=2, limit=9, unacknowledged_only=False) == []


async def test_what_is_acknowledged_while_a_long_stream_is_read_is_not_given_any_more(inbox: Inbox) -> None:
    kept = await inbox.keep([notice(number) for number in range(1_200)], [], 1)
    given = 0
    async for one in inbox.unacknowledged(PATIENT):
        given += 1
        if given == 1:
            await inbox.acknowledge(PATIENT, [one.notification_id for one in kept[1_000:]])
        assert one.notice == kept[given - 1].notice

    assert given == 1_000


async def test_inboxes_agree_with_plain_lists_after_a_long_life(inbox: Inbox) -> None:
    rng = random.Random(7)  # noqa: S311 - a test's
    kept: dict[str, list[Notification]] = {owner: [] for owner in OWNERS}
    unseen: dict[str, set[int]] = {owner: set() for owner in OWNERS}
    told = 0
    for _ in range(150):
        if rng.random() < 0.5:
            # Some of it is there already.
            numbers = range(max(0, told - 4), told + rng.randrange(5))
            for one in await inbox.keep([notice(n, OWNERS[n * 7 % 5 % 3]) for n in numbers], [], 1):
                kept[one.notice.owner].append(one)
                unseen[one.notice.owner].add(one.notification_id)
            told = max(told, numbers.stop)
        else:
            owner = rng.choice(OWNERS)
            ids = {rng.randrange(1, told + 3) for _ in range(rng.randrange(4))}
            assert await inbox.acknowledge(owner, ids) == len(ids & unseen[owner])
            unseen[owner] -= ids
    assert told > 100
    for owner in OWNERS:
        mine = [(one.notice.command_id, one.notification_id) for one in kept[owner]]
        waiting = [command for command, number in mine if number in unseen[owner]]
        assert 0 < len(waiting) < len(mine)
        assert await commands(inbox, owner) == [command for command, _ in reversed(mine)]
        assert await commands(inbox, owner, unseen=True) == waiting[::-1]
        assert await unseen_in_order(inbox, owner) == waiting
        page = await inbox.newest(owner, before=None, limit=500, unacknowledged_only=False)
        seen = {one.notification_id for one in page if one.acknowledged}
        assert seen == {number for _, number in mine} - unseen[owner]
