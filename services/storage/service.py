"""What storage offers to the member's own services."""

from __future__ import annotations

from typing import Any

from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
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

    async def Seal(self, request: storage_pb2.SealRequest, context: Any) -> storage_pb2.SealResponse:
        require_peer(context, services=_GATEWAY)
        sealed = await self._sealer.seal([_item(item) for item in request.items])
        return storage_pb2.SealResponse(results=sealed.results, seals=sealed.seals)

    async def Collect(self, request: storage_pb2.CollectRequest, context: Any) -> storage_pb2.CollectResponse:
        require_peer(context, services=_STORAGE)
        removed, waiting = await self._collector.collect()
        return storage_pb2.CollectResponse(removed=removed, waiting=waiting)

    async def Open(self, request: storage_pb2.OpenRequest, context: Any) -> storage_pb2.OpenResponse:
        require_peer(context, services=_GATEWAY)
        return _opened(await self._record_opener.open(request.tx_id, request.command_id))

    async def OpenMany(
        self, request: storage_pb2.OpenManyRequest, context: Any
    ) -> storage_pb2.OpenManyResponse:
        require_peer(context, services=_GATEWAY)
        if not request.opens:
            raise MeshError.invalid("nothing is named; name 1 to 200 decisions", "opens")
        if len(request.opens) > _MOST_OPENS:
            raise MeshError.too_large(f"at most {_MOST_OPENS} are opened at once; ask again", "opens")
        opened = await self._record_opener.open_many([(one.tx_id, one.command_id) for one in request.opens])
        return storage_pb2.OpenManyResponse(results=[_open_result(one) for one in opened])

    async def OpenInEmergency(
        self, request: storage_pb2.OpenInEmergencyRequest, context: Any
    ) -> storage_pb2.OpenInEmergencyResponse:
        require_peer(context, services=_GATEWAY)
        opened = await self._emergency.opener.open(request.command)
        return storage_pb2.OpenInEmergencyResponse(opened=_opened(opened))

    async def GetStandstill(
        self, request: storage_pb2.GetStandstillRequest, context: Any
    ) -> storage_pb2.GetStandstillResponse:
        require_peer(context, services=_GATEWAY)
        return await self._emergency.standstill()

    async def ListEmergencies(
        self, request: storage_pb2.ListEmergenciesRequest, context: Any
    ) -> storage_pb2.ListEmergenciesResponse:
        require_peer(context, services=_GATEWAY)
        return await self._emergency.kept(unrecorded_only=request.unrecorded_only)

    async def PutBlob(self, request: storage_pb2.PutBlobRequest, context: Any) -> storage_pb2.PutBlobResponse:
        require_peer(context, services=_IDENTITY)
        replicas = await self._blobs.put(request.blob, request.cid, request.command_id, request.signer)
        return storage_pb2.PutBlobResponse(replicas=replicas)

    async def GetBlob(self, request: storage_pb2.GetBlobRequest, context: Any) -> storage_pb2.GetBlobResponse:
        peer = require_peer(context, services=_GATEWAY | _IDENTITY)
        found = self._blobs.get if peer.service in _IDENTITY else self._blobs.envelope
        return storage_pb2.GetBlobResponse(blob=await found(request.cid))


def _opened(opened: OpenedRecord) -> storage_pb2.OpenResponse:
    return storage_pb2.OpenResponse(
        blocks=opened.blocks,
        sealed_data_key=opened.sealed_data_key,
        released_by=opened.released_by,
        record=opened.record,
    )


def _open_result(opened: OpenedRecord | MeshError) -> storage_pb2.OpenResult:
    if isinstance(opened, MeshError):
        return storage_pb2.OpenResult(error=to_detail(opened))
    return storage_pb2.OpenResult(opened=_opened(opened))


def _item(item: storage_pb2.SealItem) -> PlainRecord:
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
