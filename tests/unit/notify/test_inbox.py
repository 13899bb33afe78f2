"""From events to inboxes and to who listens, on a real database file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2
from services.notify.domain import ReviewRule
from services.notify.feeds import QUEUED_AT_MOST, Feeds
from services.notify.inbox import Inbox
from services.notify.intake import Intake
from services.notify.schema import MIGRATIONS
from services.runtime.errors import MeshError
from services.runtime.events import Event
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.unit.notify.story import (
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
class Notify:
    inbox: Inbox
    feeds: Feeds
    intake: Intake
    rules: Rules

    async def hear(self, happened: events_pb2.TransactionCommitted) -> None:
        await self.intake.handle(Event(happened.SerializeToString(), {}, 1, 1))

    async def hear_all(self, *happened: events_pb2.TransactionCommitted) -> None:
        await self.intake.handle_all([Event(one.SerializeToString(), {}, 1, 1) for one in happened])

    async def kinds(self, owner: str) -> list[str]:
        found = await self.inbox.newest(owner, before=None, limit=100, unacknowledged_only=False)
        return [one.notice.kind for one in found]


@asynccontextmanager
async def opened(file: Path, home: str = "MercyMSP") -> AsyncIterator[Notify]:
    async with Database(file, MIGRATIONS) as database:
        inbox, feeds, rules = Inbox(database), Feeds(Metrics("notify")), Rules()
        intake = Intake(inbox, feeds, rules, Metrics("notify"), channel=CHANNEL, home=home)
        yield Notify(inbox, feeds, intake, rules)


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


async def test_an_event_that_comes_twice_is_told_once(notify: Notify) -> None:
    with notify.feeds.listen(PATIENT) as feed:
        await notify.hear(read(1))
        await notify.hear(read(1))
        await notify.hear(read(2))
        first, second = await feed.next(), await feed.next()

    assert await notify.kinds(PATIENT) == ["access.permitted"] * 2
    assert [one.notification.notice.tx_id for one in (first, second)] == ["tx-1", "tx-2"]


async def test_an_inbox_and_who_reviews_survive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "inbox.db") as notify:
        await notify.hear(event(identities=(document(MERCY_ADMIN), document(LAKESIDE_ADMIN)), tx_id="tx-0"))
        await notify.hear(read(1))
        name = await notify.inbox.inbox_id()

    pending = document(PATIENT, state_pb2.IDENTITY_STATUS_PENDING)
    async with opened(tmp_path / "inbox.db") as notify:
        await notify.hear(event(entry("register", PATIENT, subject=PATIENT), identities=(pending,)))

        assert await notify.inbox.inbox_id() == name
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


async def test_events_that_come_together_are_told_in_their_order_and_once(notify: Notify) -> None:
    with notify.feeds.listen(PATIENT) as feed:
        await notify.hear(read(2))
        await notify.hear_all(read(1), read(2), read(3), read(1))
        told = [(await feed.next()).notification.notice.tx_id for _ in range(3)]

    assert told == ["tx-2", "tx-1", "tx-3"]
    assert await notify.kinds(PATIENT) == ["access.permitted"] * 3


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


async def test_one_bad_event_keeps_all_that_came_with_it_out_until_it_is_set_aside(notify: Notify) -> None:
    other = read(2)
    other.channel = "another"

    assert (await refusal(notify.hear_all(read(1), other, read(3)))).code == code_pb2.CODE_WRONG_CHANNEL
    assert await notify.kinds(PATIENT) == []
    await notify.hear_all(read(1), read(3))
    assert await notify.kinds(PATIENT) == ["access.permitted"] * 2


async def test_a_new_file_has_a_name_of_its_own_so_that_the_stream_is_read_anew(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as one, opened(tmp_path / "b.db") as other:
        assert await one.inbox.inbox_id() != await other.inbox.inbox_id()


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
    await notify.hear(happened)
    assert await notify.kinds(PATIENT) == ["registration.requested"]
    assert "review.wanted" in await notify.kinds(MERCY_ADMIN)


async def test_what_is_no_event_of_this_channel_is_refused_and_nothing_kept(notify: Notify) -> None:
    other = read(1)
    other.channel = "another"

    assert (await refusal(notify.hear(other))).code == code_pb2.CODE_WRONG_CHANNEL
    garbage = notify.intake.handle(Event(b"\xff\xff\xff", {}, 1, 1))
    assert (await refusal(garbage)).code == code_pb2.CODE_INVALID
    assert await notify.kinds(PATIENT) == []


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
            await asyncio.wait_for(feed.next(), 0.05)


async def test_a_listener_that_does_not_read_is_cut_off_and_harms_no_other(notify: Notify) -> None:
    with notify.feeds.listen(PATIENT) as slow, notify.feeds.listen(PATIENT) as quick:
        for number in range(QUEUED_AT_MOST + 1):
            await notify.hear(read(number))
            await quick.next()
        err = await refusal(slow.next())

    assert err.code == code_pb2.CODE_RESOURCE_EXHAUSTED


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
        await feed.next()
        assert (await refusal(feed.next())).code == code_pb2.CODE_UNAVAILABLE
    with notify.feeds.listen(PATIENT) as feed:
        assert (await refusal(feed.next())).code == code_pb2.CODE_UNAVAILABLE
