"""Blocks from a peer's Deliver service, in order, over as many connections as it takes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from . import _protos as fabric
from .blocks import Block, of_message
from .connection import Connection
from .errors import BlockEventsError, MalformedMessage
from .identity import sha256
from .proposal import header
from .reconnect import Reconnect, resumed

_WITHOUT_END = (1 << 64) - 1
_EOF: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue] — missing in the stubs


async def deliver(
    connection: Connection, channel: str, start: int, reconnect: Reconnect
) -> AsyncGenerator[Block]:
    """Blocks from number `start` on; each exactly once and in order.

    A lost connection is made again, after a growing delay, from the next block. Raises
    BlockEventsError when the peer refuses (no such channel, no permission), NoSigner without a signer.
    """
    stream = resumed(
        lambda number: _one_stream(connection, channel, number),
        start,
        lambda block: block.number + 1,
        reconnect,
    )
    async with aclosing(stream) as blocks:
        async for block in blocks:
            yield block


async def _one_stream(connection: Connection, channel: str, start: int) -> AsyncGenerator[Block]:
    call: Any = fabric.events_grpc.DeliverStub(connection.channel).Deliver()
    try:
        await call.write(_seek(connection, channel, start))
        expected = start
        while (response := await call.read()) is not _EOF:
            if response.WhichOneof("Type") == "status":
                if response.status == fabric.common.SERVICE_UNAVAILABLE:
                    return
                raise BlockEventsError(response.status, fabric.common.Status.Name(response.status))
            if response.block.header.number != expected:
                raise MalformedMessage(f"block {expected} was due")
            expected += 1
            yield of_message(response.block)
    finally:
        call.cancel()


def _seek(connection: Connection, channel: str, start: int) -> Any:
    """A signed envelope: from `start` on, waiting for blocks that are not there yet."""
    seek = fabric.ab.SeekInfo(
        start=fabric.ab.SeekPosition(specified=fabric.ab.SeekSpecified(number=start)),
        stop=fabric.ab.SeekPosition(specified=fabric.ab.SeekSpecified(number=_WITHOUT_END)),
        behavior=fabric.ab.SeekInfo.BLOCK_UNTIL_READY,
    )
    payload = fabric.common.Payload(
        header=header(fabric.common.DELIVER_SEEK_INFO, channel, connection.creator),
        data=seek.SerializeToString(),
    ).SerializeToString()
    return fabric.common.Envelope(payload=payload, signature=connection.sign(sha256(payload)))
