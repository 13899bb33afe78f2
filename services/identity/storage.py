"""The member's storage service, as far as identity needs it: sealed evidence in and out."""

from __future__ import annotations

import grpc

from cbmdhi.protocol import cid as cids
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError

_PUT_SECONDS = 15.0
_GET_SECONDS = 4.0


class StorageClient:
    """Stores blobs that are sealed already. Raises MeshError and nothing else."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = storage_pb2_grpc.StorageServiceStub(channel)
        self._retries = RetryBudget()

    async def put(self, blob: bytes, cid: str, command_id: str, signer: str) -> None:
        """Store a blob under its CID for as long as a registration needs it. Idempotent."""
        request = storage_pb2.PutBlobRequest(blob=blob, cid=cid, command_id=command_id, signer=signer)
        await call(self._stub.PutBlob, request, deadline_seconds=_PUT_SECONDS, retries=self._retries)

    async def get(self, cid: str) -> bytes:
        """The blob of a CID. Raises MeshError NOT_FOUND, INTEGRITY or UNAVAILABLE."""
        request = storage_pb2.GetBlobRequest(cid=cid)
        answer = await call(self._stub.GetBlob, request, deadline_seconds=_GET_SECONDS)
        try:
            cids.check(cid, answer.blob)
        except (cids.HashMismatch, ValueError) as exc:
            raise MeshError.integrity("the evidence is not what its CID names") from exc
        return answer.blob
