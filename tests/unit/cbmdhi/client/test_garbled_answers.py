"""A gateway whose answers over gRPC cannot be read: what was signed is kept; what was asked is an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import status_pb2

from cbmdhi.client.commands import submit_group
from cbmdhi.client.trail import Trail
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, UnknownOutcome
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol.ids import uuid7
from services.runtime.client import call
from services.runtime.errors import MeshError as OfService
from services.runtime.errors import from_rpc_error
from tests.unit.cbmdhi.client.test_outcomes import Open, group

GARBAGE = b"\xff\xff\xff"
_DETAILS = "grpc-status-details-bin"
_TYPE = "type.googleapis.com/cbmdhi.command.v1.ErrorDetail"


def details(value: bytes) -> bytes:
    """A status whose ErrorDetail has these bytes."""
    detail = Packed(type_url=_TYPE, value=value)
    return status_pb2.Status(
        code=grpc.StatusCode.INTERNAL.value[0], message="x", details=[detail]
    ).SerializeToString()


# What no gateway of the mesh puts beside a status.
UNREADABLE = {
    "no status": GARBAGE,
    "a status of another code": status_pb2.Status(code=5, message="x").SerializeToString(),
    "no detail": details(GARBAGE),
}


class Garbling(grpc.GenericRpcHandler):
    """Answers every unary call: with bytes, or with a status and what lies beside it."""

    def __init__(self, answer: bytes = b"", beside: bytes | None = None) -> None:
        self._answer, self._beside = answer, beside

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._call)

    async def _call(self, request: bytes, context: Any) -> bytes:
        if self._beside is not None:
            await context.abort(grpc.StatusCode.INTERNAL, "x", ((_DETAILS, self._beside),))
        return self._answer


@asynccontextmanager
async def at(gateway: Garbling) -> AsyncIterator[Open]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((gateway,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        yield Open(channel, 10.0)
    finally:
        await channel.close()
        await server.stop(0)


GATEWAYS = {"no message": Garbling(GARBAGE)} | {
    name: Garbling(beside=beside) for name, beside in UNREADABLE.items()
}


@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
async def test_what_was_signed_is_kept_when_the_answer_cannot_be_read(gateway: Garbling) -> None:
    signed = group()
    async with at(gateway) as connection:
        with pytest.raises(UnknownOutcome) as caught:
            await submit_group(connection, signed)
    assert caught.value.again == (gateway_pb2.SubmitRequest(group=signed),)
    assert "the gateway" in caught.value.reason


@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
async def test_what_was_asked_is_an_error_of_the_mesh_when_the_answer_cannot_be_read(
    gateway: Garbling,
) -> None:
    async with at(gateway) as connection:
        with pytest.raises(MeshError, match="cannot be read") as caught:
            await Trail(connection).receipt(uuid7())
    assert caught.value.code == code_pb2.CODE_INTEGRITY
    assert not caught.value.nothing_done


@pytest.mark.parametrize("beside", [GARBAGE, details(GARBAGE)], ids=["no status", "no detail"])
async def test_a_service_makes_an_error_of_it_too(beside: bytes) -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata((_DETAILS, beside)), "x"
    )
    assert from_rpc_error(error).outcome == code_pb2.OUTCOME_UNKNOWN


async def test_a_service_makes_an_error_of_bytes_that_are_no_message() -> None:
    async with at(Garbling(GARBAGE)) as connection:
        stub = gateway_pb2_grpc.CommandServiceStub(connection.first_contact)
        with pytest.raises(OfService, match="cannot be read") as caught:
            await call(stub.GetReceipt, gateway_pb2.GetReceiptRequest(), deadline_seconds=10)
    assert caught.value.outcome == code_pb2.OUTCOME_UNKNOWN
