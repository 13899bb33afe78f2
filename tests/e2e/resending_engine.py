"""An engine as a process of its own, to be killed: streams a file's submissions, reports each result."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from cbmdhi.client import Client
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.wallet import Wallet

_PAUSE_SECONDS = 0.02


async def main(wallet: Path, items: Sequence[gateway_pb2.IngestItem]) -> None:
    """Send one by one; a line on standard output for each result."""

    async def requests() -> AsyncIterator[gateway_pb2.IngestRequest]:
        for item in items:
            yield gateway_pb2.IngestRequest(items=[item])
            await asyncio.sleep(_PAUSE_SECONDS)

    async with Client(Wallet.load(wallet)) as engine:
        stub = gateway_pb2_grpc.IngestServiceStub(engine.connection.authenticated)
        async for response in stub.Ingest(requests(), metadata=await engine.connection.metadata()):
            for result in response.results:
                print(result.submission_id, flush=True)


if __name__ == "__main__":
    request = gateway_pb2.IngestRequest.FromString(Path(sys.argv[2]).read_bytes())
    asyncio.run(main(Path(sys.argv[1]), request.items))
