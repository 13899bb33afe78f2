"""Sending groups of commands, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from google.protobuf.message import Message

from cbmdhi.client import receipts
from cbmdhi.client.connection import Connection, check_size
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.errors import MeshError, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import command

Method: TypeAlias = Callable[..., Awaitable[Any]]


@contextmanager
def kept_when_cut(
    connection: Connection, request: Message, *, has_left: bool = False
) -> Iterator[Callable[[Method], Method]]:
    """Gives the request to `Connection.on_cut` when the block is cancelled after it may have left: from the
    first call on of a method that is wrapped by what this gives."""

    def noted(method: Method) -> Method:
        async def call(asked: Message, **how: Any) -> Any:
            nonlocal has_left
            has_left = True
            return await method(asked, **how)

        return call

    try:
        yield noted
    except asyncio.CancelledError:
        if has_left:
            connection.on_cut([request])
        raise


async def submit_group(
    connection: Connection, group: CommandGroup, contents: Sequence[gateway_pb2.Content] = ()
) -> list[gateway_pb2.RecordReceipt]:
    """Send a group, and have proven what became of it: see `receipts.of_group`. The proof has a deadline of
    its own. Raises NotCommitted with the first receipt that tells why, unless all is OK.

    Raises NotSent when it had no effect, UnknownOutcome when nobody can tell, also by the deadline, and
    Unproven when the gateway tells and does not prove it: their `again` holds the request, signed as it is,
    whose `group` and `contents` can be sent again. Cut off in between, it is kept (`Connection.on_cut`).
    """
    request = gateway_pb2.SubmitRequest(group=group, contents=contents)
    told = await carry(connection, request)
    with kept_when_cut(connection, request, has_left=True):
        return await receipts.of_group(connection, group.commands, told, request)


async def carry(
    connection: Connection, request: gateway_pb2.SubmitRequest
) -> Sequence[gateway_pb2.RecordReceipt]:
    """Send a group, and hear what the gateway says of it. Raises NotSent, UnknownOutcome."""
    stub = gateway_pb2_grpc.CommandServiceStub(connection.authenticated)
    try:
        check_size(request)
        with kept_when_cut(connection, request) as noted:
            return (await connection.call(noted(stub.Submit), request)).receipts
    except MeshError as error:
        raise to_be_sent(error, [request]) from error


async def submit(connection: Connection, *bodies: Message) -> list[gateway_pb2.RecordReceipt]:
    """Sign bodies in person, as one group, and send them. Raises as `submit_group` does."""
    wallet = connection.wallet
    channel = wallet.consortium.signed_channel
    return await submit_group(
        connection, command.make_group([(wallet, body) for body in bodies], channel=channel)
    )
