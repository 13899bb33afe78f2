"""Events of a chaincode from the gateway peer, in order, over as many connections as it takes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from . import _protos as fabric
from .checkpoint import Checkpoint
from .connection import Connection, failures_of, status_of
from .errors import REFUSED, ChaincodeEventsError
from .identity import sha256
from .reconnect import Reconnect, resumed


@dataclass(frozen=True, slots=True)
class ChaincodeEvent:
    """What a chaincode set in a valid transaction; Fabric keeps one a transaction."""

    block_number: int
    transaction_id: str
    chaincode: str
    name: str
    payload: bytes

    @property
    def checkpoint(self) -> Checkpoint:
        """The place behind this event."""
        return Checkpoint(self.block_number, self.transaction_id)


async def chaincode_events(
    connection: Connection, channel: str, chaincode: str, start: Checkpoint, reconnect: Reconnect
) -> AsyncGenerator[ChaincodeEvent]:
    """See `Network.chaincode_events`."""
    stream = resumed(
        lambda place: _one_stream(connection, channel, chaincode, place),
        start,
        lambda event: event.checkpoint,
        reconnect,
    )
    async with aclosing(stream) as events:
        async for event in events:
            yield event


async def _one_stream(
    connection: Connection, channel: str, chaincode: str, start: Checkpoint
) -> AsyncGenerator[ChaincodeEvent]:
    call: Any = connection.stub.ChaincodeEvents(_request(connection, channel, chaincode, start))
    try:
        async for response in call:
            for event in response.events:
                yield ChaincodeEvent(
                    response.block_number, event.tx_id, event.chaincode_id, event.event_name, event.payload
                )
    except grpc.aio.AioRpcError as exc:
        if (status := status_of(exc)) in REFUSED:
            raise ChaincodeEventsError(status, exc.details() or "", failures_of(exc)) from exc
        raise
    finally:
        call.cancel()


def _request(connection: Connection, channel: str, chaincode: str, start: Checkpoint) -> Any:
    request = fabric.gateway.ChaincodeEventsRequest(
        channel_id=channel,
        chaincode_id=chaincode,
        identity=connection.creator,
        start_position=fabric.ab.SeekPosition(specified=fabric.ab.SeekSpecified(number=start.block_number)),
        after_transaction_id=start.transaction_id,
    ).SerializeToString()
    return fabric.gateway.SignedChaincodeEventsRequest(
        request=request, signature=connection.sign(sha256(request))
    )
