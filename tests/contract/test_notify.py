"""The notify service from outside: inboxes, streams, NATS coming and going, the end of the process."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.notify.v1 import notify_pb2
from services.runtime.client import call
from services.runtime.errors import MeshError
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM
from tests.contract.notify_process import Mercy, read, running, signed, user
from tests.support.fakes.notify_events import CLINICIAN, MERCY_ADMIN, PATIENT, document, entry, event
from tests.support.waiting import until


@pytest.fixture
async def mercy(tmp_path: Path) -> AsyncIterator[Mercy]:
    async with running(tmp_path) as mercy:
        yield mercy


async def told(mercy: Mercy, number: int) -> bool:
    found = await mercy.inbox(PATIENT, page_size=100)
    return [one.kind for one in found] == ["access.permitted"] * number


async def test_a_registration_is_told_to_the_patient_and_put_before_the_administrator(mercy: Mercy) -> None:
    await mercy.publish(event(identities=(document(MERCY_ADMIN),), tx_id="tx-0"))
    pending = document(PATIENT, state_pb2.IDENTITY_STATUS_PENDING)
    await mercy.publish(event(entry("register", PATIENT, subject=PATIENT), identities=(pending,)))

    async def told() -> bool:
        return await mercy.kinds(MERCY_ADMIN) == ["review.wanted", "registration.activated"]

    await until(told, "the administrator is asked")
    (notification,) = await mercy.inbox(PATIENT)
    assert notification.kind == "registration.requested"
    assert (notification.tx_id, notification.block, notification.at_ms) == ("tx1", 7, 1_000)


async def test_a_stream_gives_what_is_not_acknowledged_and_then_what_comes(mercy: Mercy) -> None:
    await mercy.publish(read(1))
    await mercy.publish(read(2))

    async def both() -> bool:
        return len(await mercy.inbox(PATIENT)) == 2

    await until(both, "both are in the inbox")
    newest, oldest = await mercy.inbox(PATIENT)
    acknowledged = await call(
        mercy.stub().Acknowledge,
        signed(notify_pb2.AcknowledgeRequest(notification_ids=[oldest.notification_id]), PATIENT),
        deadline_seconds=5,
        metadata=user(PATIENT),
    )
    assert acknowledged.changed == 1
    assert await mercy.inbox(PATIENT, unacknowledged_only=True) == [newest]

    answers = mercy.stream()
    async with asyncio.timeout(10), aclosing(answers):
        assert (await anext(answers)).notification.tx_id == "tx-2"
        await mercy.publish(read(3))
        assert (await anext(answers)).notification.tx_id == "tx-3"


async def test_pages_are_linked_by_their_tokens_and_a_foreign_token_is_refused(mercy: Mercy) -> None:
    for number in range(3):
        await mercy.publish(read(number))

    async def all_there() -> bool:
        return len(await mercy.inbox(PATIENT)) == 3

    await until(all_there, "all are there")
    stub = mercy.stub()

    async def page(token: str) -> notify_pb2.ListResponse:
        request = notify_pb2.ListRequest(page_size=2, page_token=token)
        return await call(stub.List, signed(request, PATIENT), deadline_seconds=5, metadata=user(PATIENT))

    first = await page("")
    second = await page(first.next_page_token)
    with pytest.raises(MeshError) as caught:
        await page("x'; --")

    assert [one.tx_id for one in [*first.notifications, *second.notifications]] == ["tx-2", "tx-1", "tx-0"]
    assert second.next_page_token == ""
    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "page_token")


async def test_nobody_but_the_own_gateway_reads_inboxes(mercy: Mercy) -> None:
    for service, organisation in (("gateway", "lakeside"), ("storage", "mercy")):
        with pytest.raises(MeshError) as caught:
            await call(
                mercy.stub(service, organisation).List,
                signed(notify_pb2.ListRequest(), PATIENT),
                deadline_seconds=5,
                metadata=user(PATIENT),
            )
        assert caught.value.code == code_pb2.CODE_FORBIDDEN


async def test_nobodys_inbox_is_read_or_acknowledged_on_the_gateways_word(mercy: Mercy) -> None:
    await mercy.publish(read(1))
    await until(lambda: told(mercy, 1), "told")
    (unseen,) = await mercy.inbox(PATIENT)
    stub, ids = mercy.stub(), [unseen.notification_id]
    by_another = notify_pb2.AcknowledgeRequest(notification_ids=ids)
    by_another = signed(by_another, CLINICIAN)
    for method, request, code in (
        (stub.List, notify_pb2.ListRequest(), code_pb2.CODE_UNAUTHENTICATED),
        (
            stub.Acknowledge,
            notify_pb2.AcknowledgeRequest(notification_ids=ids),
            code_pb2.CODE_UNAUTHENTICATED,
        ),
        (stub.Acknowledge, by_another, code_pb2.CODE_FORBIDDEN),
    ):
        with pytest.raises(MeshError) as caught:
            await call(method, request, deadline_seconds=5, metadata=user(PATIENT))
        assert caught.value.code == code
    assert await mercy.inbox(PATIENT, unacknowledged_only=True) == [unseen]


async def test_while_nats_is_away_everything_is_told_all_the_same(mercy: Mercy) -> None:
    await mercy.publish(read(1))
    await until(lambda: told(mercy, 1), "the first one arrived")
    answers = mercy.stream()
    async with asyncio.timeout(20), aclosing(answers):
        assert (await anext(answers)).notification.tx_id == "tx-1"
        await mercy.nats.kill()
        mercy.commit(read(2))
        assert (await anext(answers)).notification.tx_id == "tx-2"
        assert await mercy.is_ready()
        mercy.nats.forget()
        await mercy.nats.start()
        await mercy.publish(read(3))
        assert (await anext(answers)).notification.tx_id == "tx-3"
    assert await told(mercy, 3)


async def test_events_that_were_purged_before_anybody_read_them_are_missed_by_nobody(mercy: Mercy) -> None:
    await mercy.publish(read(0))
    await until(lambda: told(mercy, 1), "told")
    assert await mercy.stop() == 0
    for number in range(1, 40):
        await mercy.publish(read(number))
    async with NatsConnection(mercy.consortium.nats(mercy.nats.url, "admin"), "admin") as operator:
        await operator.wait_connected()
        await operator.jetstream().purge_stream(LEDGER_STREAM.name)
    await mercy.start()

    await until(lambda: told(mercy, 40), "all of them are told")


async def test_an_invented_event_tells_nobody_anything(mercy: Mercy) -> None:
    invented = event(entry("break-glass", CLINICIAN, patient=PATIENT, command_id="c"), tx_id="tx-invented")
    await mercy.announce("tx-invented", invented.SerializeToString())
    await mercy.publish(read(1))

    await until(lambda: told(mercy, 1), "what is committed is told")
    assert await mercy.kinds(PATIENT) == ["access.permitted"]


async def test_inboxes_that_were_lost_are_filled_again_from_the_ledger(mercy: Mercy) -> None:
    await mercy.publish(read(1))

    async def told() -> bool:
        return await mercy.kinds(PATIENT) == ["access.permitted"]

    await until(told, "told")
    assert await mercy.stop() == 0
    shutil.rmtree(mercy.folder / "data")
    await mercy.start()
    await until(told, "told again")


async def test_on_sigterm_an_open_stream_is_told_to_come_again_and_the_process_ends_with_0(
    mercy: Mercy,
) -> None:
    await mercy.publish(read(1))
    answers = mercy.stream()
    async with aclosing(answers):
        await asyncio.wait_for(anext(answers), 10)
        stopping = asyncio.create_task(mercy.stop())
        with pytest.raises(MeshError) as caught:
            await asyncio.wait_for(anext(answers), 10)

    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert "shutting down" in caught.value.reason
    assert await stopping == 0
