"""What storage offers to the member's own services."""

from __future__ import annotations

from typing import Any

from cbmdhi.storage.v1 import storage_pb2 as pb
from cbmdhi.storage.v1 import storage_pb2_grpc
from services.runtime.callers import require_peer
from services.runtime.errors import MeshError, to_detail
from services.storage.domain.batch import PlainRecord
from services.storage.emergency.queries import EmergencyQueries
from services.storage.release.record_opener import OpenedRecord, RecordOpener
from services.storage.sealing.sealer import Sealer
from services.storage.store.blobs import Blobs
from services.storage.store.garbage_collector import GarbageCollector

_GATEWAY = frozenset({"gateway"})
_IDENTITY = frozenset({"identity"})
_STORAGE = frozenset({"storage"})
_MOST_OPENS = 200


class StorageServicer(storage_pb2_grpc.StorageServiceServicer):
    """`StorageService`, for the own member's gateway and identity."""

    def __init__(
        self,
        sealer: Sealer,
        record_opener: RecordOpener,
        blobs: Blobs,
        collector: GarbageCollector,
        emergency: EmergencyQueries,
    ) -> None:
        self._sealer = sealer
        self._emergency = emergency
        self._collector = collector
        self._record_opener = record_opener
        self._blobs = blobs

    async def Seal(self, request: pb.SealRequest, context: Any) -> pb.SealResponse:
        require_peer(context, services=_GATEWAY)
        sealed = await self._sealer.seal([_item(item) for item in request.items])
        return pb.SealResponse(results=sealed.results, seals=sealed.seals)

    async def Collect(self, request: pb.CollectRequest, context: Any) -> pb.CollectResponse:
        require_peer(context, services=_STORAGE)
        removed, waiting = await self._collector.collect()
        return pb.CollectResponse(removed=removed, waiting=waiting)

    async def Open(self, request: pb.OpenRequest, context: Any) -> pb.OpenResponse:
        require_peer(context, services=_GATEWAY)
        return _opened(await self._record_opener.open(request.tx_id, request.command_id))

    async def OpenMany(self, request: pb.OpenManyRequest, context: Any) -> pb.OpenManyResponse:
        require_peer(context, services=_GATEWAY)
        if not request.opens:
            raise MeshError.invalid("nothing is named; name 1 to 200 decisions", "opens")
        if len(request.opens) > _MOST_OPENS:
            raise MeshError.too_large(f"at most {_MOST_OPENS} are opened at once; ask again", "opens")
        opened = await self._record_opener.open_many([(one.tx_id, one.command_id) for one in request.opens])
        return pb.OpenManyResponse(results=[_open_result(one) for one in opened])

    async def OpenInEmergency(
        self, request: pb.OpenInEmergencyRequest, context: Any
    ) -> pb.OpenInEmergencyResponse:
        require_peer(context, services=_GATEWAY)
        opened = await self._emergency.opener.open(request.command)
        return pb.OpenInEmergencyResponse(opened=_opened(opened))

    async def GetStandstill(self, request: pb.GetStandstillRequest, context: Any) -> pb.GetStandstillResponse:
        require_peer(context, services=_GATEWAY)
        return await self._emergency.standstill()

    async def ListEmergencies(
        self, request: pb.ListEmergenciesRequest, context: Any
    ) -> pb.ListEmergenciesResponse:
        require_peer(context, services=_GATEWAY)
        return await self._emergency.kept(unrecorded_only=request.unrecorded_only)

    async def PutBlob(self, request: pb.PutBlobRequest, context: Any) -> pb.PutBlobResponse:
        require_peer(context, services=_IDENTITY)
        replicas = await self._blobs.put(request.blob, request.cid, request.command_id, request.signer)
        return pb.PutBlobResponse(replicas=replicas)

    async def GetBlob(self, request: pb.GetBlobRequest, context: Any) -> pb.GetBlobResponse:
        peer = require_peer(context, services=_GATEWAY | _IDENTITY)
        found = self._blobs.get if peer.service in _IDENTITY else self._blobs.envelope
        return pb.GetBlobResponse(blob=await found(request.cid))


def _opened(opened: OpenedRecord) -> pb.OpenResponse:
    return pb.OpenResponse(
        blocks=opened.blocks,
        sealed_data_key=opened.sealed_data_key,
        released_by=opened.released_by,
        record=opened.record,
    )


def _open_result(opened: OpenedRecord | MeshError) -> pb.OpenResult:
    if isinstance(opened, MeshError):
        return pb.OpenResult(error=to_detail(opened))
    return pb.OpenResult(opened=_opened(opened))


def _item(item: pb.SealItem) -> PlainRecord:
    return PlainRecord(
        record_id=item.record_id,
        version=item.version,
        patient=item.patient,
        content=item.content,
        salt=item.salt,
        commitment=item.content_commitment,
        command_id=item.command_id,
        signer=item.signer,
    )
