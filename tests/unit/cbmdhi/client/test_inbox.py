"""What a client asks in person is signed by its wallet, anew for each attempt, and holds where it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from cbmdhi.client.connection import Connection
from cbmdhi.client.inbox import Inbox
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.errors import MeshError as Told
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol import call
from services.notify import inbox as notify
from services.notify.feeds import Feeds
from services.notify.notices import Notice
from services.notify.schema import MIGRATIONS
from services.notify.service import InboxServicer
from services.runtime.caller_signature import CallerSignature
from services.runtime.errors import MeshError, to_status
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.channel import CHANNEL
from tests.support.fakes.asking_gateway import Gateway
from tests.support.fakes.notify_events import PATIENT, SIGNERS, registered
from tests.support.waiting import until

MERCY = "MercyMSP"


class Carrier(notify_pb2_grpc.InboxServiceServicer):
    """Mercy's gateway, and behind it the real inboxes.

    loses    so many answers that never arrive
    refuses  how the next streams end after so many notifications, each in turn
    """

    def __init__(self, inboxes: InboxServicer) -> None:
        self.inboxes, self.gateway = inboxes, Gateway(MERCY)
        self.loses = 0
        self.refuses: list[tuple[int, MeshError | grpc.StatusCode]] = []
        self.opened: list[int] = []

    async def List(self, request: Any, context: Any) -> Any:
        return await self.inboxes.List(request, self.gateway.says(PATIENT))

    async def Acknowledge(self, request: Any, context: Any) -> Any:
        try:
            answer = await self.inboxes.Acknowledge(request, self.gateway.says(PATIENT))
            if self.loses:
                self.loses -= 1
                raise MeshError(code_pb2.CODE_UNAVAILABLE, "the answer was lost")
        except MeshError as err:
            status = to_status(err)
            await context.abort(status.code, status.details, status.trailing_metadata)
        else:
            return answer

    async def Stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.opened.append(call.parse(request)[2].after)
        left, how = self.refuses.pop(0) if self.refuses else (1 << 30, None)
        if left:
            async for one in self.inboxes.Stream(request, self.gateway.says(PATIENT)):
                yield one
                left -= 1
                if not left:
                    break
        if isinstance(how, grpc.StatusCode):
            await context.abort(how, "cut")
        elif how is not None:
            status = to_status(how)
            await context.abort(status.code, status.details, status.trailing_metadata)


class Open(Connection):
    """A connection that logs in without a question."""

    token_seconds = 300.0

    def __init__(self, channel: grpc.aio.Channel) -> None:
        signer = SIGNERS[PATIENT]
        consortium = SimpleNamespace(signed_channel=CHANNEL)
        wallet = SimpleNamespace(address=signer.address, sign=signer.sign, consortium=consortium)
        member = SimpleNamespace(tls_ca_pem="", name="mercy", msp_id=MERCY, gateway=None)
        super().__init__(wallet, member, 10.0, first_contact=channel)  # type: ignore[arg-type]
        self._authenticated = channel

        self.logins = 0
        self.tokens = Tokens(self._logged_in)

    async def _logged_in(self) -> Issued:
        self.logins += 1
        return Issued(f"token-{self.logins}", self.token_seconds)


class Ledger:
    async def identity(self, address: str) -> state_pb2.IdentityDocument | None:
        return registered(address).identity


@dataclass
class Mesh:
    """The patient's inbox, what it holds, and who carries it."""

    inbox: Inbox
    carrier: Carrier
    ids: list[int]
    kept: notify.Inbox
    feeds: Feeds
    connection: Open

    async def tell(self, number: int) -> int:
        """Something happens."""
        notice = Notice(owner=PATIENT, kind="record.written", tx_id=f"n{number}", block=9, at_ms=1)
        [told] = await self.kept.keep([notice], [], 9)
        self.feeds.wake([PATIENT])
        return told.notification_id


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """With three notifications."""
    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        kept = notify.Inbox(database)
        notices = [
            Notice(owner=PATIENT, kind="break-glass", tx_id=f"t{n}", block=n, at_ms=1) for n in range(3)
        ]
        told = await kept.keep(notices, [], 3)
        asking = CallerSignature(Ledger(), channel=CHANNEL, msp_id=MERCY)
        feeds = Feeds(Metrics("notify"))
        carrier = Carrier(InboxServicer(kept, feeds, asking))
        server = grpc.aio.server()
        notify_pb2_grpc.add_InboxServiceServicer_to_server(carrier, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            connection = Open(channel)
            ids = [one.notification_id for one in told]
            yield Mesh(Inbox(connection), carrier, ids, kept, feeds, connection)
        await server.stop(0)


async def test_a_patient_reads_and_acknowledges_their_inbox(mesh: Mesh) -> None:
    inbox, ids = mesh.inbox, mesh.ids
    assert [one.notification_id for one in await inbox.list()] == ids[::-1]
    assert await inbox.acknowledge(ids[:1]) == 1
    assert [one.notification_id for one in await inbox.list(unacknowledged_only=True)] == ids[:0:-1]
    async with aclosing(inbox.stream()) as answers:  # type: ignore[type-var]
        assert [(await anext(answers)).notification_id for _ in ids[1:]] == ids[1:]


async def test_an_answer_that_was_lost_is_asked_for_again_and_not_taken_for_a_replay(mesh: Mesh) -> None:
    inbox, ids = mesh.inbox, mesh.ids
    mesh.carrier.loses = 1
    assert await inbox.acknowledge(ids) == 0  # all of it was done the first time
    assert await inbox.list(unacknowledged_only=True) == []


async def heard(stream: AsyncIterator[notify_pb2.Notification], count: int) -> list[int]:
    return [(await asyncio.wait_for(anext(stream), 20)).notification_id for _ in range(count)]


_AWAY = MeshError(code_pb2.CODE_UNAVAILABLE, "shutting down", retry_after_ms=50)
_ENDED = MeshError(code_pb2.CODE_UNAUTHENTICATED, "the token has expired")


async def test_a_stream_that_breaks_goes_on_where_it_was_and_nothing_comes_twice_or_never(mesh: Mesh) -> None:
    first, second, third = mesh.ids
    mesh.carrier.refuses = [
        (1, grpc.StatusCode.UNAVAILABLE),
        (1, _AWAY),
        (0, grpc.StatusCode.INTERNAL),
        (1, _ENDED),
    ]
    async with aclosing(mesh.inbox.stream()) as stream:
        assert await heard(stream, 2) == [first, second]
        # What comes while there is no stream, and is seen on another device, comes here too.
        fourth = await mesh.tell(4)
        await mesh.inbox.acknowledge([third, fourth])
        assert await heard(stream, 2) == [third, fourth]
        fifth = await mesh.tell(5)
        assert await heard(stream, 1) == [fifth]
    assert mesh.carrier.opened[0] == 0
    assert mesh.carrier.opened[-1] in (third, fourth)


async def test_an_application_goes_on_after_its_own_restart(mesh: Mesh) -> None:
    async with aclosing(mesh.inbox.stream(after=mesh.ids[1])) as stream:
        assert await heard(stream, 1) == mesh.ids[2:]


async def test_of_an_inbox_that_has_not_come_so_far_what_is_not_acknowledged_comes(mesh: Mesh) -> None:
    async with aclosing(mesh.inbox.stream(after=mesh.ids[-1] + 1)) as stream:
        assert await heard(stream, 3) == mesh.ids


async def test_an_inbox_that_is_built_anew_under_a_stream_tells_all_that_is_new_and_nothing_twice(
    mesh: Mesh, tmp_path: Path
) -> None:
    mesh.carrier.refuses = [(3, _AWAY)]
    async with aclosing(mesh.inbox.stream()) as stream, Database(tmp_path / "anew.db", MIGRATIONS) as anew:
        assert await heard(stream, 3) == mesh.ids
        old = [one.notice async for one in mesh.kept.after(PATIENT, 0)]
        mesh.kept = notify.Inbox(anew)
        asking = CallerSignature(Ledger(), channel=CHANNEL, msp_id=MERCY)
        mesh.carrier.inboxes = InboxServicer(mesh.kept, mesh.feeds, asking)
        again = await mesh.kept.keep(old, [], 3)
        told = [await mesh.tell(4), await mesh.tell(5)]
        assert await heard(stream, 2) == told
        # What came again has another id, and was not given twice.
        assert [one.notice for one in again] == old
        assert not {one.notification_id for one in again} & set(mesh.ids)


async def test_a_stream_goes_over_to_new_sessions_without_a_word(mesh: Mesh) -> None:
    mesh.connection.token_seconds = 0.5
    async with aclosing(mesh.inbox.stream()) as stream:
        assert await heard(stream, 3) == mesh.ids
        for number in range(3):
            opened = len(mesh.carrier.opened)
            waiting = asyncio.create_task(heard(stream, 1))
            await until(lambda opened=opened: len(mesh.carrier.opened) > opened, "another stream is open")
            told = await mesh.tell(10 + number)
            assert await waiting == [told]
    assert mesh.connection.logins >= 3


async def test_a_mesh_that_stays_away_is_told_of_with_the_place_to_go_on(mesh: Mesh) -> None:
    mesh.carrier.refuses = [(1, _AWAY), *[(0, _AWAY)] * 100]
    async with aclosing(mesh.inbox.stream(patience_seconds=0.5)) as stream:
        assert await heard(stream, 1) == mesh.ids[:1]
        with pytest.raises(Told, match=rf"tried \d times within 0 s.*stream\(after={mesh.ids[0]}\)"):
            await heard(stream, 1)


async def test_a_stream_that_is_refused_ends_at_once(mesh: Mesh) -> None:
    for refusal in (MeshError(code_pb2.CODE_INACTIVE_SIGNER, "suspended"), _ENDED):
        mesh.carrier.refuses, mesh.carrier.opened = [(0, refusal)] * 10, []
        async with aclosing(mesh.inbox.stream()) as stream:
            with pytest.raises(Told, match=refusal.reason):
                await heard(stream, 1)
        assert len(mesh.carrier.opened) <= 2


async def test_tokens_that_are_over_at_once_do_not_keep_a_stream_trying_for_ever(
    mesh: Mesh,
) -> None:
    mesh.connection.token_seconds = 0.0
    mesh.carrier.refuses = [(1, _ENDED), *[(0, _ENDED)] * 1000]
    async with aclosing(mesh.inbox.stream(patience_seconds=0.5)) as stream:
        assert await heard(stream, 1) == mesh.ids[:1]
        with pytest.raises(Told, match=rf"tried \d times within 0 s.*stream\(after={mesh.ids[0]}\)"):
            await heard(stream, 1)
