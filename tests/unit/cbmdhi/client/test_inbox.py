"""What a client asks in person is signed by its wallet, anew for each attempt, and holds where it counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from cbmdhi.client.connection import Connection
from cbmdhi.client.inbox import Inbox
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.notify.v1 import notify_pb2_grpc
from services.notify import inbox as notify
from services.notify.domain import Notice
from services.notify.feeds import Feeds
from services.notify.schema import MIGRATIONS
from services.notify.service import InboxServicer
from services.runtime.caller_signature import CallerSignature
from services.runtime.errors import MeshError, to_status
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.channel import CHANNEL
from tests.unit.services.notify.story import PATIENT, SIGNERS, registered
from tests.unit.services.runtime.asks import Gateway

MERCY = "MercyMSP"


class Carrier(notify_pb2_grpc.InboxServiceServicer):
    """Mercy's gateway, and behind it the real inboxes. `loses`: so many answers that never arrive."""

    def __init__(self, inboxes: InboxServicer) -> None:
        self.inboxes, self.gateway = inboxes, Gateway(MERCY)
        self.loses = 0

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
        async for one in self.inboxes.Stream(request, self.gateway.says(PATIENT)):
            yield one


class Open(Connection):
    """A connection without a login."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        signer = SIGNERS[PATIENT]
        consortium = SimpleNamespace(signed_channel=CHANNEL)
        wallet = SimpleNamespace(address=signer.address, sign=signer.sign, consortium=consortium)
        member = SimpleNamespace(tls_ca_pem="", name="mercy", msp_id=MERCY, gateway=None)
        super().__init__(wallet, member, 10.0, first_contact=channel)  # type: ignore[arg-type]
        self._authenticated = channel

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


class Ledger:
    async def identity(self, address: str) -> state_pb2.IdentityDocument | None:
        return registered(address).identity


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[tuple[Inbox, Carrier, list[int]]]:
    """The patient's inbox with three notifications, and who carries it."""
    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        kept = notify.Inbox(database)
        notices = [
            Notice(owner=PATIENT, kind="break-glass", tx_id=f"t{n}", block=n, at_ms=1) for n in range(3)
        ]
        told = await kept.keep(notices, [], 3)
        asking = CallerSignature(Ledger(), channel=CHANNEL, msp_id=MERCY)
        carrier = Carrier(InboxServicer(kept, Feeds(Metrics("notify")), asking))
        server = grpc.aio.server()
        notify_pb2_grpc.add_InboxServiceServicer_to_server(carrier, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Inbox(Open(channel)), carrier, [one.notification_id for one in told]
        await server.stop(0)


async def test_a_patient_reads_and_acknowledges_their_inbox(mesh: tuple[Inbox, Carrier, list[int]]) -> None:
    inbox, _, ids = mesh
    assert [one.notification_id for one in await inbox.list()] == ids[::-1]
    assert await inbox.acknowledge(ids[:1]) == 1
    assert [one.notification_id for one in await inbox.list(unacknowledged_only=True)] == ids[:0:-1]
    async with aclosing(inbox.stream()) as answers:  # type: ignore[type-var]
        assert [(await anext(answers)).notification_id for _ in ids[1:]] == ids[1:]


async def test_an_answer_that_was_lost_is_asked_for_again_and_not_taken_for_a_replay(
    mesh: tuple[Inbox, Carrier, list[int]],
) -> None:
    inbox, carrier, ids = mesh
    carrier.loses = 1
    assert await inbox.acknowledge(ids) == 0  # all of it was done the first time
    assert await inbox.list(unacknowledged_only=True) == []
