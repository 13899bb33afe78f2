"""`python -m services.storage.collect --config FILE`: remove unpinned blocks from the disk now.

The storage service that runs with that configuration removes them. Prints how many were removed.
"""

from __future__ import annotations

import asyncio
import sys

from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.client import call, connect
from services.runtime.errors import MeshError
from services.storage.config import StorageConfig

_SECONDS = 600.0


async def collect(config: StorageConfig) -> storage_pb2.CollectResponse:
    """Ask the running service. Raises MeshError."""
    async with connect(
        config.listen_address,
        config.tls,
        service="storage",
        organisation=config.organisation,
        msp_id=config.msp_id,
    ) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        return await call(stub.Collect, storage_pb2.CollectRequest(), deadline_seconds=_SECONDS)


def main() -> int:
    """The exit code."""
    try:
        answer = asyncio.run(collect(StorageConfig.load()))
    except MeshError as err:
        print(f"Not collected: {err.reason}", file=sys.stderr)
        return 1
    print(f"{answer.removed} blocks removed, {answer.waiting} wait.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
