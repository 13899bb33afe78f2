"""The member's storage service, as far as the gateway needs it."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError

MAX_MESSAGE_BYTES = 33 * 1024 * 1024

_SEAL_SECONDS = 20.0
_OPEN_SECONDS = 15.0
_BLOB_SECONDS = 10.0


class Storage:
    """Seals and opens. Raises MeshError and nothing else."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = storage_pb2_grpc.StorageServiceStub(channel)
        self._retries = RetryBudget()

    async def seal(self, items: Sequence[storage_pb2.SealItem]) -> storage_pb2.SealResponse:
        """One batch. Not tried again: sealing twice stores twice."""
        answer = await call(
            self._stub.Seal,
            storage_pb2.SealRequest(items=items),
            deadline_seconds=_SEAL_SECONDS,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        if len(answer.results) != len(items):
            raise MeshError(code_pb2.CODE_INTERNAL, "the storage service's answer does not fit; send again")
        return answer

    async def open_many(self, opens: Sequence[storage_pb2.OpenRequest]) -> list[storage_pb2.OpenResult]:
        """At most 200 envelopes and data keys, in order, each with its own error."""
        answer = await call(
            self._stub.OpenMany,
            storage_pb2.OpenManyRequest(opens=opens),
            deadline_seconds=_OPEN_SECONDS,
            retries=self._retries,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        if len(answer.results) != len(opens):
            raise MeshError(code_pb2.CODE_INTERNAL, "the storage service's answer does not fit; send again")
        return list(answer.results)

    async def open(self, tx_id: str, command_id: str) -> storage_pb2.OpenResponse:
        """Envelope and data key, sealed to the reader, by a committed decision."""
        request = storage_pb2.OpenRequest(tx_id=tx_id, command_id=command_id)
        return await call(self._stub.Open, request, deadline_seconds=_OPEN_SECONDS, retries=self._retries)

    async def open_in_emergency(self, signed: SignedCommand) -> storage_pb2.OpenResponse:
        """The same by a signed EmergencyAccess, while no majority is to be had. Not tried again."""
        request = storage_pb2.OpenInEmergencyRequest(command=signed)
        return (await call(self._stub.OpenInEmergency, request, deadline_seconds=_OPEN_SECONDS)).opened

    async def standstill(self) -> storage_pb2.GetStandstillResponse:
        """Whether the channel stands still."""
        request = storage_pb2.GetStandstillRequest()
        return await call(
            self._stub.GetStandstill, request, deadline_seconds=_OPEN_SECONDS, retries=self._retries
        )

    async def emergencies(self, *, unrecorded_only: bool) -> storage_pb2.ListEmergenciesResponse:
        """What was opened without a majority, newest first."""
        request = storage_pb2.ListEmergenciesRequest(unrecorded_only=unrecorded_only)
        return await call(
            self._stub.ListEmergencies, request, deadline_seconds=_OPEN_SECONDS, retries=self._retries
        )

    async def blob(self, cid: str) -> bytes:
        """A stored block, as it lies there. Raises MeshError NOT_FOUND."""
        request = storage_pb2.GetBlobRequest(cid=cid)
        answer = await call(
            self._stub.GetBlob, request, deadline_seconds=_BLOB_SECONDS, retries=self._retries
        )
        return answer.blob
