"""Calls of the gateway as tests make them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest

from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.gateway.v1 import gateway_pb2_grpc
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, IngestRequest, IngestResult
from services.runtime.errors import code_name, from_rpc_error
from tests.contract.gateway_member import Caller
from tests.support.fakes.gateway_people import Person, put

ENGINE, CLINICIAN = Person(), Person(role=Role.ROLE_CLINICIAN)
PATIENT, ADMINISTRATOR = Person(role=Role.ROLE_PATIENT), Person(role=Role.ROLE_ADMINISTRATOR)


async def refusal(call: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, 15)
    err = from_rpc_error(caught.value)
    assert err.reason
    return code_name(err.code), err.path


def submission(name: str, **changed: Any) -> IngestItem:
    one = put(ENGINE, PATIENT, **changed)
    return IngestItem(submission_id=name, group=one.group, contents=one.contents)


def ingest(caller: Caller, requests: AsyncIterator[IngestRequest]) -> Any:
    stub = gateway_pb2_grpc.IngestServiceStub(caller.channel)
    return stub.Ingest(requests, metadata=caller.metadata, timeout=30)


async def results_of(call: Any) -> AsyncIterator[IngestResult]:
    """The results of an ingest call, one by one."""
    async for response in call:
        for result in response.results:
            yield result


async def sent(*items: IngestItem, until_set: asyncio.Event | None = None) -> AsyncIterator[IngestRequest]:
    """A message for each."""
    for item in items:
        yield IngestRequest(items=[item])
    if until_set is not None:
        await until_set.wait()


def records(caller: Caller) -> gateway_pb2_grpc.RecordServiceStub:
    return gateway_pb2_grpc.RecordServiceStub(caller.channel)


async def collected(call: Any) -> list[Any]:
    return [result async for result in call]
