"""From committed blocks to inboxes and to who listens, on a real database file."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2, ledger_pb2
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.notify.intake import Intake
from services.notify.notices import ReviewRule
from services.notify.retention import Retention
from services.notify.schema import MIGRATIONS
from services.runtime.errors import MeshError
from services.runtime.events import Event
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.fakes.notify_events import (
    CHANNEL,
    CLINICIAN,
    LAKESIDE_ADMIN,
    MERCY_ADMIN,
    PATIENT,
    RULES,
    document,
    entry,
    event,
)
from tests.support.waiting import until

DAY_MS = 86_400_000


class Rules:
    def __init__(self) -> None:
        self.asked = 0
        self.failure: MeshError | None = None

    async def review_rules(self) -> list[ReviewRule]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return RULES


@dataclass
class Ledger:
    """The ledger service: a block for each time that something happened.

    down   raised instead of an answer
    hold   while cleared, it does not answer
    """

    blocks: list[list[events_pb2.TransactionCommitted]] = field(default_factory=list)
    down: MeshError | None = None
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[int] = field(default_factory=list)
    most: int = 2

    def __post_init__(self) -> None:
        self.hold.set()

    async def page(self, from_block: int) -> ledger_pb2.ListCommittedResponse:
        self.asked.append(from_block)
        await self.hold.wait()
        if self.down is not None:
            raise self.down
        part = self.blocks[from_block : from_block + self.most]
        return ledger_pb2.ListCommittedResponse(
            transactions=[one for block in part for one in block], next_block=from_block + len(part)
        )


@dataclass
class Notify:
    database: Database
    inbox: Inbox
    feeds: Feeds
    intake: Intake
    rules: Rules
    ledger: Ledger

    async def hear(self, happened: events_pb2.TransactionCommitted) -> None:
        await self.hear_all(happened)

    async def hear_all(self, *happened: events_pb2.TransactionCommitted) -> None:
        """They are committed in one block, and an event comes."""
        self.ledger.blocks.append(list(happened))
        await self.intake.handle(EVENT)

    async def kinds(self, owner: str) -> list[str]:
        found = await self.inbox.newest(owner, before=None, limit=100, unacknowledged_only=False)
        return [one.notice.kind for one in found]

    async def after(self, owner: str, last: int = 0) -> list[str]:
        return [one.notice.tx_id async for one in self.inbox.after(owner, last)]


EVENT = Event(b"\xff whatever an event says", {}, 1, 1)


@asynccontextmanager
async def opened(file: Path, home: str = "MercyMSP", ledger: Ledger | None = None) -> AsyncIterator[Notify]:
    ledger = ledger or Ledger()
    async with Database(file, MIGRATIONS) as database:
        inbox, feeds, rules = Inbox(database), Feeds(Metrics("notify")), Rules()
        async with Intake(
            inbox, feeds, ledger, rules, Metrics("notify"), channel=CHANNEL, home=home
        ) as intake:
            yield Notify(database, inbox, feeds, intake, rules, ledger)


@pytest.fixture
async def notify(tmp_path: Path) -> AsyncIterator[Notify]:
    async with opened(tmp_path / "inbox.db") as notify:
        yield notify


def read(number: int) -> events_pb2.TransactionCommitted:
    return event(entry("read", CLINICIAN, patient=PATIENT, command_id=f"read-{number}"), tx_id=f"tx-{number}")


async def refusal(work: object) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await work  # type: ignore[misc]
    return caught.value


async def test_what_is_committed_is_told_once_however_often_events_come(notify: Notify) -> None:
    await notify.hear(read(1))
    await notify.intake.handle(EVENT)
    await notify.hear(read(2))
    await notify.intake.handle_all([EVENT, EVENT])

    assert await notify.after(PATIENT) == ["tx-1", "tx-2"]


async def test_an_event_that_somebody_invented_tells_nobody_anything(notify: Notify) -> None:
    invented = Event(read(1).SerializeToString(), {}, 1, 1)

    await notify.intake.handle(invented)

    assert await notify.kinds(PATIENT) == []


async def test_what_no_event_told_of_is_there_when_the_ledger_is_asked_the_next_time(notify: Notify) -> None:
    for number in range(7):
        notify.ledger.blocks.append([read(number)])
    asking = asyncio.create_task(notify.intake.run(0.01))
    await until(lambda: len(notify.ledger.asked) > 5, "asked, and asked again")
    asking.cancel()
    await asyncio.wait([asking])

    assert await notify.after(PATIENT) == [f"tx-{number}" for number in range(7)]
    assert await notify.intake.check() is None


async def test_a_handler_that_gives_up_while_sqlite_commits_loses_nothing_for_who_listens(
    notify: Notify,
) -> None:
    """What was seen: it timed out during the commit, and the open stream never heard the break-glass."""
    await notify.hear(read(1))
    committing, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stall(_: object) -> None:
        loop.call_soon_threadsafe(committing.set)
        assert goes_on.wait(10)

    with notify.feeds.listen(PATIENT) as feed:
        stalled = asyncio.create_task(notify.database.write(stall))
        await committing.wait()
        broken = event(
            entry("break-glass", CLINICIAN, patient=PATIENT, command_id="broken"), tx_id="tx-broken"
        )
        notify.ledger.blocks.append([broken])
        handler = asyncio.create_task(notify.intake.handle(EVENT))
        await until(lambda: len(notify.ledger.asked) >= 3, "the handler is at the database")
        handler.cancel()
        await asyncio.wait([handler])
        goes_on.set()
        await stalled
        await asyncio.wait_for(feed.woken(), 10)

        assert await notify.after(PATIENT) == ["tx-1", "tx-broken"]
    assert (await notify.kinds(PATIENT))[0] == "break-glass"


async def test_who_asks_while_the_ledger_is_being_read_gets_what_was_committed_since(notify: Notify) -> None:
    notify.ledger.hold.clear()
    first = asyncio.create_task(notify.intake.catch_up())
    await until(lambda: notify.ledger.asked == [0], "the first is asking")
    others = [asyncio.create_task(notify.intake.catch_up()) for _ in range(5)]
    await asyncio.sleep(0)
    notify.ledger.hold.set()
    await first
    notify.ledger.blocks.append([read(1)])
    await asyncio.gather(*others)

    assert await notify.after(PATIENT) == ["tx-1"]
    assert len(notify.ledger.asked) <= 4


async def test_a_ledger_of_another_channel_is_not_believed(notify: Notify) -> None:
    other = read(1)
    other.channel = "another"

    assert (await refusal(notify.hear(other))).code == code_pb2.CODE_WRONG_CHANNEL
    assert await notify.kinds(PATIENT) == []
    assert "WRONG_CHANNEL" in (await notify.intake.check() or "")


async def test_while_the_ledger_does_not_answer_the_service_is_not_ready(notify: Notify) -> None:
    assert await notify.intake.check() is not None
    await notify.intake.catch_up()
    assert await notify.intake.check() is None

    notify.ledger.down = MeshError(code_pb2.CODE_UNAVAILABLE, "away")
    assert (await refusal(notify.hear(read(1)))).code == code_pb2.CODE_UNAVAILABLE
    assert "UNAVAILABLE" in (await notify.intake.check() or "")
    notify.ledger.down = None
    await notify.intake.catch_up()
    assert await notify.after(PATIENT) == ["tx-1"]


async def test_an_inbox_and_who_reviews_survive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "inbox.db") as notify:
        await notify.hear(event(identities=(document(MERCY_ADMIN), document(LAKESIDE_ADMIN)), tx_id="tx-0"))
        await notify.hear(read(1))
        ledger = notify.ledger

    pending = document(PATIENT, state_pb2.IDENTITY_STATUS_PENDING)
    async with opened(tmp_path / "inbox.db", ledger=ledger) as notify:
        await notify.hear(event(entry("register", PATIENT, subject=PATIENT), identities=(pending,)))

        assert ledger.asked[-2:] == [2, 3]
        assert await notify.kinds(PATIENT) == ["registration.requested", "access.permitted"]
        assert await notify.kinds(MERCY_ADMIN) == ["review.wanted", "registration.activated"]
        assert await notify.kinds(LAKESIDE_ADMIN) == []


async def test_each_member_tells_its_own_people_and_all_of_them_one_whom_none_knows(tmp_path: Path) -> None:
    pending = document(PATIENT, state_pb2.IDENTITY_STATUS_PENDING)
    async with opened(tmp_path / "mercy.db") as mercy, opened(tmp_path / "l.db", "LakesideMSP") as lakeside:
        for notify in (mercy, lakeside):
            await notify.hear(read(1))
            assert await notify.kinds(PATIENT) == ["access.permitted"]
            await notify.hear_all(
                event(identities=(document(MERCY_ADMIN), document(LAKESIDE_ADMIN)), tx_id="tx-0"),
                event(entry("register", PATIENT, subject=PATIENT), identities=(pending,)),
                read(2),
            )

        assert await mercy.kinds(LAKESIDE_ADMIN) == await lakeside.kinds(MERCY_ADMIN) == []
        assert await mercy.kinds(MERCY_ADMIN) == ["review.wanted", "registration.activated"]
        assert await lakeside.kinds(LAKESIDE_ADMIN) == ["review.wanted", "registration.activated"]
        assert await mercy.kinds(PATIENT) == [
            "access.permitted",
            "registration.requested",
            "access.permitted",
        ]
        assert await lakeside.kinds(PATIENT) == ["access.permitted"]


async def test_what_is_committed_together_is_told_in_its_order_and_once(notify: Notify) -> None:
    await notify.hear(read(2))
    await notify.hear_all(read(1), read(2), read(3), read(1))

    assert await notify.after(PATIENT) == ["tx-2", "tx-1", "tx-3"]


async def test_an_event_sees_what_one_before_it_changed(notify: Notify) -> None:
    pending = document(PATIENT, state_pb2.IDENTITY_STATUS_PENDING)
    suspended = document(MERCY_ADMIN, state_pb2.IDENTITY_STATUS_SUSPENDED, version=2)
    await notify.hear_all(
        event(identities=(document(MERCY_ADMIN),), tx_id="tx-0"),
        event(identities=(suspended,), tx_id="tx-1"),
        event(identities=(pending,), tx_id="tx-2"),
        event(identities=(document(PATIENT, version=2),), tx_id="tx-3"),
    )

    assert await notify.kinds(MERCY_ADMIN) == ["identity.suspended", "registration.activated"]
    assert await notify.kinds(PATIENT) == ["registration.activated"]


async def test_the_rules_are_asked_only_for_a_registration_that_begins_to_wait(notify: Notify) -> None:
    await notify.hear(read(1))
    assert notify.rules.asked == 0
    pending = document(PATIENT, state_pb2.IDENTITY_STATUS_PENDING)
    await notify.hear(event(entry("register", PATIENT, subject=PATIENT), identities=(pending,)))
    assert notify.rules.asked == 1


async def test_while_the_ledger_is_away_nothing_of_a_registration_is_kept_and_later_all_of_it(
    notify: Notify,
) -> None:
    pending = document(PATIENT, state_pb2.IDENTITY_STATUS_PENDING)
    happened = event(entry("register", PATIENT, subject=PATIENT), identities=(pending,))
    await notify.hear(event(identities=(document(MERCY_ADMIN),), tx_id="tx-0"))
    notify.rules.failure = MeshError(code_pb2.CODE_UNAVAILABLE, "away")
    assert (await refusal(notify.hear(happened))).code == code_pb2.CODE_UNAVAILABLE
    assert await notify.kinds(PATIENT) == []

    notify.rules.failure = None
    await notify.intake.catch_up()
    assert await notify.kinds(PATIENT) == ["registration.requested"]
    assert "review.wanted" in await notify.kinds(MERCY_ADMIN)


async def test_pages_follow_one_another_newest_first_without_gap_or_repeat(notify: Notify) -> None:
    for number in range(5):
        await notify.hear(read(number))

    seen: list[str] = []
    before: int | None = None
    while page := await notify.inbox.newest(PATIENT, before=before, limit=2, unacknowledged_only=False):
        seen += [one.notice.tx_id for one in page]
        before = page[-1].notification_id

    assert seen == ["tx-4", "tx-3", "tx-2", "tx-1", "tx-0"]


async def test_only_the_owner_acknowledges_and_a_second_time_changes_nothing(notify: Notify) -> None:
    await notify.hear(read(1))
    (one,) = await notify.inbox.newest(PATIENT, before=None, limit=9, unacknowledged_only=True)

    assert await notify.inbox.acknowledge(CLINICIAN, [one.notification_id]) == 0
    assert await notify.inbox.acknowledge(PATIENT, [one.notification_id, 999]) == 1
    assert await notify.inbox.acknowledge(PATIENT, [one.notification_id]) == 0
    assert await notify.inbox.newest(PATIENT, before=None, limit=9, unacknowledged_only=True) == []
    (seen,) = await notify.inbox.newest(PATIENT, before=None, limit=9, unacknowledged_only=False)
    assert seen.acknowledged


async def test_a_listener_gets_what_is_theirs_and_nothing_else(notify: Notify) -> None:
    with notify.feeds.listen(CLINICIAN) as feed:
        await notify.hear(read(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(feed.woken(), 0.05)


async def test_a_listener_that_does_not_read_for_long_finds_all_of_it_and_harms_no_other(
    notify: Notify,
) -> None:
    with notify.feeds.listen(PATIENT) as slow, notify.feeds.listen(PATIENT) as quick:
        for number in range(300):
            await notify.hear(read(number))
            await quick.woken()
        await slow.woken()

    assert await notify.after(PATIENT) == [f"tx-{number}" for number in range(300)]


async def test_what_is_older_than_the_member_keeps_it_is_removed_and_ids_go_on(notify: Notify) -> None:
    for number in range(6):
        old = read(number)
        old.at_ms = number * DAY_MS
        await notify.hear(old)
    kept = await notify.inbox.newest(PATIENT, before=None, limit=9, unacknowledged_only=False)
    await notify.inbox.acknowledge(PATIENT, [kept[0].notification_id])
    retention = Retention(notify.inbox, 2.5, lambda: 6 * DAY_MS)

    assert await retention.sweep() == 4
    assert await retention.sweep() == 0

    assert await notify.after(PATIENT) == ["tx-4", "tx-5"]
    assert [one.notice.tx_id async for one in notify.inbox.unacknowledged(PATIENT)] == ["tx-4"]
    page = await notify.inbox.newest(
        PATIENT, before=kept[1].notification_id, limit=9, unacknowledged_only=False
    )
    assert page == []
    await notify.hear(read(9))
    assert await notify.after(PATIENT, kept[0].notification_id) == ["tx-9"]


async def test_the_newest_notification_of_all_is_never_removed(notify: Notify) -> None:
    await notify.hear(read(1))

    assert await Retention(notify.inbox, 1, lambda: 100 * DAY_MS).sweep() == 0


async def test_one_person_cannot_open_streams_without_end(notify: Notify) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(notify.feeds.listen(PATIENT))
        with pytest.raises(MeshError) as caught:
            stack.enter_context(notify.feeds.listen(PATIENT))
        stack.enter_context(notify.feeds.listen(CLINICIAN))

    assert caught.value.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    with notify.feeds.listen(PATIENT):
        pass


async def test_at_shutdown_streams_end_after_what_they_had_and_new_ones_end_at_once(notify: Notify) -> None:
    with notify.feeds.listen(PATIENT) as feed:
        await notify.hear(read(1))
        notify.feeds.close()
        await feed.woken()
        assert (await refusal(feed.woken())).code == code_pb2.CODE_UNAVAILABLE
    with notify.feeds.listen(PATIENT) as feed:
        assert (await refusal(feed.woken())).code == code_pb2.CODE_UNAVAILABLE


async def test_a_ledger_that_does_not_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.hold.clear()
    async with asyncio.timeout(10), opened(tmp_path / "inbox.db", ledger=ledger) as notify:
        waiting = asyncio.create_task(notify.intake.catch_up())
        await until(lambda: ledger.asked, "the ledger is asked")
    await waiting
