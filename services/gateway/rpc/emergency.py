"""RecordService without a majority. It only passes on: storage decides, by the clinician's signed word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.gateway.v1.gateway_pb2 import (
    GetStandstillRequest,
    GetStandstillResponse,
    ListEmergenciesRequest,
    ListEmergenciesResponse,
    ReadInEmergencyRequest,
    ReadInEmergencyResponse,
)
from cbmdhi.ledger.v1.ledger_pb2 import Evidence
from cbmdhi.protocol import command
from cbmdhi.storage.v1 import storage_pb2
from services.gateway.domain.session import Session
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.runtime.errors import MeshError


class Storage(Protocol):
    """Storage (services.gateway.backends.storage), or a fake."""

    async def open_in_emergency(self, signed: SignedCommand) -> storage_pb2.OpenResponse: ...

    async def standstill(self) -> storage_pb2.GetStandstillResponse: ...

    async def emergencies(self, *, unrecorded_only: bool) -> storage_pb2.ListEmergenciesResponse: ...


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def prove_versions(
        self, places: Sequence[tuple[str, int]], *, own_peer_only: bool = False
    ) -> Evidence: ...


class Emergency:
    """Raises MeshError. `own_msp`: of this member."""

    def __init__(self, storage: Storage, ledger: Ledger, refused: RefusalQuotas, own_msp: str) -> None:
        self._refused = refused
        self._storage = storage
        self._ledger = ledger
        self._own_msp = own_msp

    async def read(self, request: ReadInEmergencyRequest, session: Session) -> ReadInEmergencyResponse:
        """Open one version, on the signed word of the caller."""
        quota = self._refused.of(session.address)
        quota.check()
        with quota.charged():
            return await self._read(request.command, session)

    async def _read(self, signed: SignedCommand, session: Session) -> ReadInEmergencyResponse:
        try:
            _, body = command.parse(signed)
        except command.MalformedCommand as error:
            raise MeshError(code_pb2.CODE_INVALID, "not a command with a body", "command") from error
        if not body.HasField("emergency_access"):
            raise MeshError(code_pb2.CODE_INVALID, "not an EmergencyAccess: send it to Read", "command")
        if signed.signer != session.address:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN, "it is signed by the caller: sign it yourself", "command.signer"
            )
        glass = body.emergency_access.glass
        # The evidence first: a command releases once. It is told only with what storage opens.
        evidence = await self._ledger.prove_versions([(glass.record_id, glass.version)], own_peer_only=True)
        opened = await self._storage.open_in_emergency(signed)
        return ReadInEmergencyResponse(opened=opened, evidence=evidence)

    async def standstill(self, request: GetStandstillRequest, session: Session) -> GetStandstillResponse:
        """Whether the channel stands still."""
        return GetStandstillResponse(standstill=await self._storage.standstill())

    async def list(self, request: ListEmergenciesRequest, session: Session) -> ListEmergenciesResponse:
        """What this member opened, for its own reviewers."""
        if session.msp != self._own_msp:
            raise MeshError(code_pb2.CODE_FORBIDDEN, "only this member's own reviewers see what it opened")
        found = await self._storage.emergencies(unrecorded_only=request.unrecorded_only)
        return ListEmergenciesResponse(emergencies=found.emergencies)
