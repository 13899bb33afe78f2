"""The inbox: what happened, told to whom it concerns."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import grpc

from cbmdhi.client.backoff import Backoff
from cbmdhi.client.connection import Connection, Metadata, connected
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, from_rpc
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol.call import MAX_LIFETIME_SECONDS

_log = logging.getLogger("cbmdhi.client")
_CHANCE = random.SystemRandom()
_EOF: object = cast(Any, grpc.aio).EOF

_PATIENCE_SECONDS = 300.0
_SHORTEST_SECONDS = 1.0
# A stream that was open for so long counts as one that could be had.
_STOOD_SECONDS = 10.0
_MOST_SEEN = 10_000
_RESUMED = (
    code_pb2.CODE_UNAVAILABLE,
    code_pb2.CODE_UNAUTHENTICATED,
    code_pb2.CODE_RESOURCE_EXHAUSTED,
    code_pb2.CODE_DEADLINE_EXCEEDED,
)


class Inbox:
    """The wallet's own notifications at this member."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self, *, unacknowledged_only: bool = False) -> list[notify_pb2.Notification]:
        """All notifications, newest first.

        for one in await anna.inbox.list(unacknowledged_only=True):
            print(one.kind, one.actor_msp)
        """
        stub = notify_pb2_grpc.InboxServiceStub(self._connection.authenticated)
        found: list[notify_pb2.Notification] = []
        request = notify_pb2.ListRequest(unacknowledged_only=unacknowledged_only, page_size=500)
        while True:
            response = await self._connection.personal(stub.List, request)
            found.extend(response.notifications)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    async def acknowledge(self, notification_ids: Sequence[int]) -> int:
        """Mark as seen. Gives how many changed; sent twice, it changes nothing the second time.

        await anna.inbox.acknowledge([one.notification_id for one in seen])
        """
        stub = notify_pb2_grpc.InboxServiceStub(self._connection.authenticated)
        request = notify_pb2.AcknowledgeRequest(notification_ids=notification_ids)
        return (await self._connection.personal(stub.Acknowledge, request)).changed

    async def stream(
        self, *, after: int = 0, patience_seconds: float = _PATIENCE_SECONDS
    ) -> AsyncGenerator[notify_pb2.Notification]:
        """What is not acknowledged, then what comes, until the caller stops; each once, oldest first.

        after             `notification_id` of the last one that was dealt with, as an application keeps it
                          over its own restarts: then everything after it, acknowledged or not. 0: what is
                          not acknowledged
        patience_seconds  for which it may not be had at a stretch, 5 minutes by default; then it raises

        It goes on over new sessions, broken connections and restarts of services: the stream is opened again
        after the last notification that came, with waits that grow to ten seconds. Nothing is lost by that,
        and nothing comes twice; an application that goes on by `after` is told again of what a member's inbox
        had lost and has from the channel anew.

        Raises MeshError when it cannot go on: at once when it is refused (such as INACTIVE_SIGNER), else when
        patience is over, saying how often it was tried and where to go on.

            async for notification in patient.inbox.stream(after=last_seen()):
                show(notification)
                keep_last_seen(notification.notification_id)
        """
        waits, seen, is_renewed = Backoff(patience_seconds), _Seen(), False
        while True:
            opened = _Opened()
            try:
                async with aclosing(self._until_renewal(after, opened)) as notifications:
                    async for notification in notifications:
                        after = notification.notification_id
                        if seen.is_new(notification):
                            waits.reset()
                            is_renewed = False
                            yield notification
                waits.reset()
                is_renewed = False
            except (grpc.aio.AioRpcError, MeshError) as error:
                ours = error if isinstance(error, MeshError) else from_rpc(error)
                if opened.stood_seconds > _STOOD_SECONDS:
                    waits.reset()
                    is_renewed = False
                wait = waits.next(ours.retry_after_ms / 1000)
                is_ended = ours.code == code_pb2.CODE_UNAUTHENTICATED
                # A token whose time was over was not refused; that it is said to be over at once is no
                # reason to try for ever.
                is_refused = is_ended and self._connection.renews_in(opened.metadata) > 0
                if ours.code not in _RESUMED or waits.is_over(wait) or (is_refused and is_renewed):
                    raise _given_up(ours, waits, after) from error
                if is_ended:
                    is_renewed |= is_refused
                    self._connection.forget_token(opened.metadata)
                _log.info("the inbox's stream is opened again in %.1f s: %s", wait, ours)
                await asyncio.sleep(wait)

    async def _until_renewal(self, after: int, opened: _Opened) -> AsyncGenerator[notify_pb2.Notification]:
        """One stream. Ends before its token and its signed call do. Raises AioRpcError, MeshError."""
        connection = self._connection
        opened.metadata = await connection.metadata()
        await connected(connection.authenticated, connection.deadline_seconds)
        stub = notify_pb2_grpc.InboxServiceStub(connection.authenticated)
        request = connection.signed(notify_pb2.StreamRequest(after=after))
        call: Any = stub.Stream(request, metadata=opened.metadata)
        opened.at = time.monotonic()
        lasts = min(connection.renews_in(opened.metadata), _CHANCE.uniform(0.5, 0.8) * MAX_LIFETIME_SECONDS)
        ends_at = asyncio.get_running_loop().time() + max(lasts, _SHORTEST_SECONDS)
        try:
            while True:
                try:
                    async with asyncio.timeout_at(ends_at):
                        response = await call.read()
                except TimeoutError:
                    return
                if response is _EOF:
                    raise MeshError(code_pb2.CODE_UNAVAILABLE, "the gateway ended the stream of the inbox")
                yield response.notification
        finally:
            call.cancel()


@dataclass
class _Opened:
    """With what a stream was opened, and when."""

    metadata: Metadata = ()
    at: float = float("inf")

    @property
    def stood_seconds(self) -> float:
        """Since it was opened; it may be that there was nothing to tell."""
        return time.monotonic() - self.at


class _Seen:
    """Notifications that came, as many as a stream that is opened again may repeat."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    def is_new(self, one: notify_pb2.Notification) -> bool:
        # Its id is another one when an inbox that was built anew tells of it again.
        key = one.tx_id, one.command_id, one.kind, one.actor
        if key in self._known:
            return False
        self._known[key] = None
        if len(self._known) > _MOST_SEEN:
            self._known.popitem(last=False)
        return True


def _given_up(why: MeshError, waits: Backoff, after: int) -> MeshError:
    if waits.attempts == 1:
        return why
    reason = (
        f"{why.reason} (tried {waits.attempts} times within {waits.patience_seconds:.0f} s; "
        f"to go on later: `stream(after={after})`)"
    )
    return MeshError(why.code, reason, why.path, why.retry_after_ms, why.outcome)
