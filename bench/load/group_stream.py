"""Groups of commands, signed by many, carried over one stream: how thousands vote and consent at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cbmdhi.client import Client
from cbmdhi.client.writing import in_messages
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc

_SECONDS = 120.0


async def carry(
    carrier: Client, groups: Mapping[str, pb.CommandGroup], *, fine: frozenset[int] = frozenset()
) -> None:
    """Commit the groups, each under a name of its own. Raises MeshError unless every one is OK, or refused
    with one of the codes in `fine`."""
    items = [gateway_pb2.IngestItem(submission_id=name, group=group) for name, group in groups.items()]
    stub = gateway_pb2_grpc.IngestServiceStub(carrier.connection.authenticated)
    call: Any = stub.Ingest(_requests(items), metadata=await carrier.connection.metadata(), timeout=_SECONDS)
    answered = 0
    async for response in call:
        for result in response.results:
            answered += 1
            if result.HasField("error"):
                raise MeshError(result.error.code, result.error.reason, result.error.path)
            receipt = result.receipts[0].receipt
            if receipt.code != code_pb2.CODE_OK and receipt.code not in fine:
                raise MeshError(receipt.code, receipt.reason, receipt.path)
    if answered < len(items):
        raise MeshError(code_pb2.CODE_UNAVAILABLE, f"{len(items) - answered} groups were not answered")


def _requests(items: list[gateway_pb2.IngestItem]) -> Iterator[gateway_pb2.IngestRequest]:
    yield from in_messages(items)
