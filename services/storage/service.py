"""What storage offers to the member's own services."""

from __future__ import annotations

from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import SealedKey, StoredContent, WriterKey
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.errors import MeshError, to_detail
from services.runtime.peers import require_peer
from services.storage.blobs import Blobs
from services.storage.domain.batch import Item, Refusal
from services.storage.domain.keys import sealed_name
from services.storage.opening import OpenedRecord, Opening
from services.storage.sealing import SealedItem, Sealing

_GATEWAY = frozenset({"gateway"})
_IDENTITY = frozenset({"identity"})
_MOST_OPENS = 200


class StorageServicer(storage_pb2_grpc.StorageServiceServicer):
    """`StorageService`, for the own member's gateway and identity."""

    def __init__(self, sealing: Sealing, opening: Opening, blobs: Blobs) -> None:
        self._sealing = sealing
        self._opening = opening
        self._blobs = blobs

    async def Seal(self, request: storage_pb2.SealRequest, context: Any) -> storage_pb2.SealResponse:
        require_peer(context, services=_GATEWAY)
        sealed = await self._sealing.seal([_item(item) for item in request.items])
        return storage_pb2.SealResponse(
            results=[_result(result, sealed.holders) for result in sealed.results],
            root_cid=sealed.root_cid,
            replicas=sealed.receipts,
        )

    async def Discard(self, request: storage_pb2.DiscardRequest, context: Any) -> storage_pb2.DiscardResponse:
        require_peer(context, services=_GATEWAY)
        await self._sealing.discard(request.root_cid, list(request.keep_cids))
        return storage_pb2.DiscardResponse()

    async def Open(self, request: storage_pb2.OpenRequest, context: Any) -> storage_pb2.OpenResponse:
        require_peer(context, services=_GATEWAY)
        return _opened(await self._opening.open(request.tx_id, request.command_id))

    async def OpenMany(
        self, request: storage_pb2.OpenManyRequest, context: Any
    ) -> storage_pb2.OpenManyResponse:
        require_peer(context, services=_GATEWAY)
        if not request.opens:
            raise MeshError(code_pb2.CODE_INVALID, "nothing is named; name 1 to 200 decisions", "opens")
        if len(request.opens) > _MOST_OPENS:
            raise MeshError(
                code_pb2.CODE_TOO_LARGE,
                f"at most {_MOST_OPENS} are opened at once; ask again",
                "opens",
            )
        opened = await self._opening.open_many([(one.tx_id, one.command_id) for one in request.opens])
        return storage_pb2.OpenManyResponse(results=[_open_result(one) for one in opened])

    async def PutBlob(self, request: storage_pb2.PutBlobRequest, context: Any) -> storage_pb2.PutBlobResponse:
        require_peer(context, services=_IDENTITY)
        return storage_pb2.PutBlobResponse(replicas=await self._blobs.put(request.blob, request.cid))

    async def GetBlob(self, request: storage_pb2.GetBlobRequest, context: Any) -> storage_pb2.GetBlobResponse:
        require_peer(context, services=_GATEWAY | _IDENTITY)
        return storage_pb2.GetBlobResponse(blob=await self._blobs.get(request.cid))


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


def _item(item: storage_pb2.SealItem) -> Item:
    return Item(
        record_id=item.record_id,
        version=item.version,
        patient=item.patient,
        content=item.content,
        salt=item.salt,
        commitment=item.content_commitment,
    )


def _result(result: SealedItem | Refusal, holders: tuple[str, ...]) -> storage_pb2.SealResult:
    if isinstance(result, Refusal):
        return storage_pb2.SealResult(code=result.code, reason=result.reason)  # type: ignore[arg-type]
    key = result.writer_key.key
    return storage_pb2.SealResult(
        code=code_pb2.CODE_OK,
        stored=StoredContent(
            cid=result.record.cid,
            stored_bytes=result.record.stored_bytes,
            writer_key=WriterKey(
                key_id=key.ref.key_id, epoch=key.ref.epoch, sealed_key_sha256=key.ref.sealed_key_sha256
            ),
            replicas=holders,
        ),
        sealed_keys=[
            # The first holder is the writer itself.
            SealedKey(msp=msp, key=sealed_name(holders[0], key.ref.key_id), sealed=key.sealed)
            for msp in result.key_holders
        ],
    )
