"""Inboxes that an earlier version wrote."""

import sqlite3
from pathlib import Path

from services.notify.inbox import Inbox
from services.notify.notices import Notice
from services.notify.schema import MIGRATIONS
from services.runtime.sqlite import Database
from tests.support.fakes.notify_events import CLINICIAN, MERCY_OFFICER, PATIENT

READ = Notice(
    owner=PATIENT,
    kind="access.permitted",
    tx_id="tx-1",
    block=7,
    at_ms=1_000,
    actor=CLINICIAN,
    actor_msp="LakesideMSP",
    record_id="0190b6f0-0000-7000-8000-000000000001",
    version=2,
    category="laboratory",
    purpose="TREAT",
    command_id="command-1",
)
BROKEN = READ._replace(kind="break-glass", tx_id="tx-2", block=8, at_ms=2_000, command_id="command-2", code=1)
OLD = [
    READ,
    BROKEN,
    BROKEN._replace(owner=MERCY_OFFICER, subject=PATIENT),
    BROKEN._replace(kind="break-glass.reviewed", at_ms=1_500, actor=MERCY_OFFICER),
    READ._replace(tx_id="tx-3", block=9, consent_id="consent-1"),
    READ._replace(tx_id="tx-4", block=9),
]
ACKNOWLEDGED = {1, 3, 5}


async def written_by_the_first_version(file: Path) -> None:
    async with Database(file, MIGRATIONS[:1]):
        pass
    db = sqlite3.connect(file)
    columns = ", ".join(Notice._fields)
    marks = ", ".join("?" * len(Notice._fields))
    for number, notice in enumerate(OLD, start=1):
        db.execute(
            f"INSERT INTO notifications ({columns}, notification_id, acknowledged) VALUES ({marks}, ?, ?)",  # noqa: S608 - a test's
            (*notice, number, number in ACKNOWLEDGED),
        )
    db.execute("INSERT INTO inbox VALUES ('a-name')")
    db.execute("INSERT INTO identities VALUES (?, 1, 'MercyMSP', 2, 3)", (PATIENT,))
    db.commit()
    db.close()


async def test_notices_and_acknowledgements_of_the_first_version_are_all_there(tmp_path: Path) -> None:
    await written_by_the_first_version(tmp_path / "inbox.db")

    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        inbox = Inbox(database)
        found = await inbox.newest(PATIENT, before=None, limit=9, unacknowledged_only=False)
        found += await inbox.newest(MERCY_OFFICER, before=None, limit=9, unacknowledged_only=False)
        assert [one.notification_id for one in found] == [6, 5, 4, 2, 1, 3]
        assert all(one.notice == OLD[one.notification_id - 1] for one in found)
        assert {one.notification_id for one in found if one.acknowledged} == ACKNOWLEDGED
        waiting = [one.notification_id async for one in inbox.unacknowledged(PATIENT)]
        assert waiting == [2, 4, 6]
        assert await inbox.next_block() == 0
        assert (await inbox.known([PATIENT]))[PATIENT].version == 3


async def test_what_the_first_version_told_is_not_told_again_and_inboxes_go_on(tmp_path: Path) -> None:
    await written_by_the_first_version(tmp_path / "inbox.db")
    new = READ._replace(tx_id="tx-5", block=10)
    late = BROKEN._replace(command_id="command-9")  # of a transaction that had told something

    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        inbox = Inbox(database, lambda: 0)
        kept = await inbox.keep([*OLD, new, late], [], 1)
        assert [(one.notification_id, one.notice) for one in kept] == [(7, new), (8, late)]
        assert await inbox.keep([late, new, *reversed(OLD)], [], 1) == []
        assert await inbox.acknowledge(PATIENT, [7, 2]) == 2
        found = await inbox.newest(PATIENT, before=None, limit=9, unacknowledged_only=True)
        assert [one.notification_id for one in found] == [8, 6, 4]


async def test_a_first_version_without_a_notice_becomes_an_inbox_too(tmp_path: Path) -> None:
    async with Database(tmp_path / "inbox.db", MIGRATIONS[:1]):
        pass
    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        assert len(await Inbox(database).keep([READ], [], 1)) == 1
