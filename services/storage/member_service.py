"""What the storage services of the members offer one another."""

from __future__ import annotations

from typing import Any

from cbmdhi.storage.v1 import storage_pb2 as pb
from cbmdhi.storage.v1 import storage_pb2_grpc
from services.runtime.callers import require_peer
from services.storage.release.key_release import KeyRelease
from services.storage.store import receipts
from services.storage.store.blocks import Blocks
from services.storage.store.replica_host import ReplicaHost

_STORAGE = frozenset({"storage"})


class MemberStorageServicer(storage_pb2_grpc.MemberStorageServiceServicer):
    """`MemberStorageService`: callable only by the storage service of a member."""

    def __init__(self, replica_host: ReplicaHost, key_release: KeyRelease, blocks: Blocks) -> None:
        self._replica_host = replica_host
        self._key_release = key_release
        self._blocks = blocks

    async def Replicate(self, request: pb.ReplicateRequest, context: Any) -> pb.ReplicateResponse:
        peer = require_peer(context, services=_STORAGE, any_member=True)
        contents = receipts.contents_of(request.contents)
        receipt = await self._replica_host.replicate(peer.msp_id, request.car, request.root_cid, contents)
        return pb.ReplicateResponse(receipt=receipt)

    async def ReleaseKey(self, request: pb.ReleaseKeyRequest, context: Any) -> pb.ReleaseKeyResponse:
        require_peer(context, services=_STORAGE, any_member=True)
        sealed = await self._key_release.release(request.tx_id, request.command_id, request.envelope_header)
        return pb.ReleaseKeyResponse(sealed_data_key=sealed)

    async def FetchBlock(self, request: pb.FetchBlockRequest, context: Any) -> pb.FetchBlockResponse:
        require_peer(context, services=_STORAGE, any_member=True)
        return pb.FetchBlockResponse(block=await self._blocks.own(request.cid))
