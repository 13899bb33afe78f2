"""Groups of commands, signed by many, carried over one stream: how thousands vote and consent at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

from cbmdhi.client import Client
from cbmdhi.client.ingest import Ingest
from cbmdhi.client.ingest_entries import Entry, GaveUp
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, of_detail
from cbmdhi.gateway.v1 import gateway_pb2

_SECONDS = 120.0
_PATIENCE_SECONDS = 30.0


async def carry(
    carrier: Client, groups: Mapping[str, pb.CommandGroup], *, fine: frozenset[int] = frozenset()
) -> None:
    """Commit the groups, each under a name of its own. Raises MeshError unless every one is OK, or refused
    with one of the codes in `fine`."""
    items = [gateway_pb2.IngestItem(submission_id=name, group=group) for name, group in groups.items()]

    async def source() -> AsyncIterator[list[Entry[str]]]:
        yield [Entry(item.submission_id, item.SerializeToString(), item.submission_id) for item in items]

    ingest = Ingest(carrier.connection, source(), patience_seconds=_PATIENCE_SECONDS)
    try:
        async with asyncio.timeout(_SECONDS), aclosing(ingest.results()) as results:
            async for _, result in results:
                _check(result, fine)
    except TimeoutError as error:
        why = f"not every group was answered within {_SECONDS:.0f} s"
        raise MeshError(code_pb2.CODE_UNAVAILABLE, why) from error
    except GaveUp as error:
        raise error.why from error


def _check(result: gateway_pb2.IngestResult | None, fine: frozenset[int]) -> None:
    if result is None:
        return
    if result.HasField("error"):
        raise of_detail(result.error)
    receipt = result.receipts[0].receipt
    if receipt.code != code_pb2.CODE_OK and receipt.code not in fine:
        raise MeshError(receipt.code, receipt.reason, receipt.path)
