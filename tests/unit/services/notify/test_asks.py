"""Inboxes are read and acknowledged by whoever signs for it, whatever a gateway says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.notify.v1 import notify_pb2
from cbmdhi.protocol import call as calls
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.notify.notices import Notice
from services.notify.schema import MIGRATIONS
from services.notify.service import InboxServicer
from services.runtime.caller_signature import CallerSignature
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.channel import CHANNEL
from tests.support.fakes.asking_gateway import Gateway
from tests.support.fakes.notify_events import CLINICIAN, PATIENT, SIGNERS, registered

MERCY = "MercyMSP"
START_MS = 1_800_000_000_000


class Mercy:
    """Mercy's inboxes, and a gateway that says what it likes."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox, self.feeds, self.now_ms = inbox, Feeds(Metrics("notify")), START_MS
        self.suspended: set[str] = set()
        asking = CallerSignature(self, channel=CHANNEL, msp_id=MERCY, clock=lambda: self.now_ms)
        self.servicer = InboxServicer(inbox, self.feeds, asking)
        self.gateway = Gateway(MERCY)

    async def identity(self, address: str) -> state_pb2.IdentityDocument | None:
        found = registered(address).identity
        if address in self.suspended:
            found.status = state_pb2.IDENTITY_STATUS_SUSPENDED
        return found

    def signed(self, request: Any, by: str = PATIENT) -> Any:
        return calls.sign(request, SIGNERS[by], channel=CHANNEL, msp=MERCY, now_ms=self.now_ms)

    async def tell(self, number: int) -> int:
        notice = Notice(owner=PATIENT, kind="break-glass", tx_id=f"tx-{number}", block=number, at_ms=1)
        kept = await self.inbox.keep([notice], [], number)
        self.feeds.wake([PATIENT])
        return kept[0].notification_id

    async def unseen(self) -> list[int]:
        request = self.signed(notify_pb2.ListRequest(unacknowledged_only=True))
        answer = await self.servicer.List(request, self.gateway.says(PATIENT))
        return [one.notification_id for one in answer.notifications]

    async def refused(self, attempt: Any, code: int) -> None:
        with pytest.raises(MeshError) as caught:
            await attempt
        assert caught.value.code == code, caught.value


@pytest.fixture
async def mercy(tmp_path: Path) -> AsyncIterator[Mercy]:
    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        yield Mercy(Inbox(database))


async def test_a_gateway_reads_and_acknowledges_nothing_in_a_patients_name(mercy: Mercy) -> None:
    told = await mercy.tell(1)
    said = mercy.gateway.says(PATIENT)
    acknowledge = notify_pb2.AcknowledgeRequest(notification_ids=[told])
    for request, code in (
        (acknowledge, code_pb2.CODE_UNAUTHENTICATED),
        (mercy.signed(acknowledge, CLINICIAN), code_pb2.CODE_FORBIDDEN),
        # What was signed to read acknowledges nothing.
        (
            notify_pb2.AcknowledgeRequest(call=mercy.signed(notify_pb2.ListRequest()).call),
            code_pb2.CODE_INVALID,
        ),
    ):
        request.notification_ids.append(told)
        await mercy.refused(mercy.servicer.Acknowledge(request, said), code)  # type: ignore[arg-type]
    await mercy.refused(
        mercy.servicer.List(notify_pb2.ListRequest(), said),  # type: ignore[arg-type]
        code_pb2.CODE_UNAUTHENTICATED,
    )
    stream = mercy.servicer.Stream(notify_pb2.StreamRequest(), said)  # type: ignore[arg-type]
    await mercy.refused(anext(aiter(stream)), code_pb2.CODE_UNAUTHENTICATED)
    assert await mercy.unseen() == [told]


async def test_what_stands_beside_the_call_is_not_looked_at(mercy: Mercy) -> None:
    first, second = await mercy.tell(1), await mercy.tell(2)
    request = mercy.signed(notify_pb2.AcknowledgeRequest(notification_ids=[first]))
    request.notification_ids.append(second)
    answer = await mercy.servicer.Acknowledge(request, mercy.gateway.says(PATIENT))
    assert (answer.changed, await mercy.unseen()) == (1, [second])
    await mercy.refused(
        mercy.servicer.Acknowledge(request, mercy.gateway.says(PATIENT)), code_pb2.CODE_CONFLICT
    )


async def test_a_suspended_patient_is_told_nothing_more_whatever_the_gateway_says(mercy: Mercy) -> None:
    mercy.suspended.add(PATIENT)
    await mercy.refused(mercy.unseen(), code_pb2.CODE_INACTIVE_SIGNER)


async def test_a_stream_ends_with_the_call_that_began_it(mercy: Mercy) -> None:
    stream = mercy.servicer.Stream(mercy.signed(notify_pb2.StreamRequest()), mercy.gateway.says(PATIENT))
    async with aclosing(stream) as answers, asyncio.timeout(20):  # type: ignore[type-var]
        first = await mercy.tell(1)
        assert (await anext(answers)).notification.notification_id == first
        mercy.now_ms += calls.MAX_LIFETIME_SECONDS * 1000
        await mercy.tell(2)
        await mercy.refused(anext(answers), code_pb2.CODE_UNAUTHENTICATED)
