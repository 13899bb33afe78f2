"""The inbox: what happened, told to whom it concerns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc

from cbmdhi.client.connection import Connection
from cbmdhi.errors import from_rpc
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc


class Inbox:
    """The wallet's own notifications at this member."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self, *, unacknowledged_only: bool = False) -> list[notify_pb2.Notification]:
        """All notifications, newest first."""
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
        """Mark as seen. Gives how many changed."""
        stub = notify_pb2_grpc.InboxServiceStub(self._connection.authenticated)
        request = notify_pb2.AcknowledgeRequest(notification_ids=notification_ids)
        return (await self._connection.personal(stub.Acknowledge, request)).changed

    async def stream(self) -> AsyncIterator[notify_pb2.Notification]:
        """What is not acknowledged, then what comes, until the caller stops.

        Raises MeshError UNAUTHENTICATED when the session ends, after some minutes: begin again.
        """
        stub = notify_pb2_grpc.InboxServiceStub(self._connection.authenticated)
        metadata = await self._connection.metadata()
        call = stub.Stream(self._connection.signed(notify_pb2.StreamRequest()), metadata=metadata)
        try:
            async for response in call:
                yield response.notification
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error
        finally:
            call.cancel()
