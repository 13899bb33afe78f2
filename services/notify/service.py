"""The gRPC surface: InboxService. The inbox is that of the call's signer, whatever the gateway says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from cbmdhi.notify.v1 import notify_pb2 as pb
from cbmdhi.notify.v1 import notify_pb2_grpc
from services.notify.feeds import Feed, Feeds, Woken
from services.notify.inbox import Inbox
from services.notify.notices import Notification
from services.runtime.caller_signature import Asked, CallerSignature
from services.runtime.errors import MeshError

_DEFAULT_PAGE = 50
_LARGEST_PAGE = 500
_ACKNOWLEDGED_AT_ONCE = 1_000


class InboxServicer(notify_pb2_grpc.InboxServiceServicer):
    """See protos/cbmdhi/notify/v1/notify.proto."""

    def __init__(self, inbox: Inbox, feeds: Feeds, caller_signature: CallerSignature) -> None:
        self._inbox = inbox
        self._feeds = feeds
        self._caller_signature = caller_signature

    async def List(self, request: pb.ListRequest, context: grpc.aio.ServicerContext) -> pb.ListResponse:
        asked = await self._caller_signature.of(request, context)
        owner, request = asked.by.address, asked.request
        size = min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        found = await self._inbox.newest(
            owner,
            before=_place(request.page_token),
            limit=size + 1,
            unacknowledged_only=request.unacknowledged_only,
        )
        page = found[:size]
        return pb.ListResponse(
            notifications=[_message(one) for one in page],
            next_page_token=str(page[-1].notification_id) if len(found) > size else "",
        )

    async def Acknowledge(
        self, request: pb.AcknowledgeRequest, context: grpc.aio.ServicerContext
    ) -> pb.AcknowledgeResponse:
        asked = await self._caller_signature.of(request, context, once=True)
        owner, request = asked.by.address, asked.request
        if len(request.notification_ids) > _ACKNOWLEDGED_AT_ONCE:
            raise MeshError.too_large(
                f"at most {_ACKNOWLEDGED_AT_ONCE} ids at once; send the rest in another call",
                "notification_ids",
            )
        ids = [one for one in request.notification_ids if one < 1 << 63]
        return pb.AcknowledgeResponse(changed=await self._inbox.acknowledge(owner, ids))

    async def Stream(
        self, request: pb.StreamRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.StreamResponse]:
        asked = await self._caller_signature.of(request, context)
        owner, after = asked.by.address, asked.request.after
        # Listen first, then read, so that nothing is missed. All notifications come from the inbox.
        with self._feeds.listen(owner) as feed:
            newest = await self._inbox.newest_id(owner)
            # An inbox that was put back from a copy, and has told nothing since, is not so far.
            resumes = 0 < after <= newest
            last = after if resumes else newest
            begin = self._inbox.after(owner, after) if resumes else self._inbox.unacknowledged(owner)
            async for one in begin:
                last = max(last, one.notification_id)
                yield pb.StreamResponse(notification=_message(one))
            while True:
                woken = await self._before_the_end(asked, feed)
                async for one in self._inbox.after(owner, last):
                    last = one.notification_id
                    yield pb.StreamResponse(notification=_message(one))
                    woken.delivered()

    async def _before_the_end(self, asked: Asked[pb.StreamRequest], feed: Feed) -> Woken:
        """Wait for a wake. Raises MeshError UNAUTHENTICATED once the signed call has expired."""
        while True:
            left = self._caller_signature.check_in_time(asked)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    return await feed.woken()


def _place(page_token: str) -> int | None:
    if not page_token:
        return None
    if not page_token.isascii() or not page_token.isdigit() or len(page_token) > 18:
        raise MeshError.invalid("not a page token of this service; begin without one", "page_token")
    return int(page_token)


def _message(one: Notification) -> pb.Notification:
    values = one.notice._asdict()
    del values["owner"]
    return pb.Notification(notification_id=one.notification_id, acknowledged=one.acknowledged, **values)
