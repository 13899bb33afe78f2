"""The state of the channel, read from the own peer's chaincode. No service in between has to be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import (
    AuditEntry,
    DecideEmergency,
    EmergencyCharge,
    EmergencyDecision,
    Epoch,
    GetKeys,
    Query,
    QueryResult,
)
from cbmdhi.protocol.state_keys import EPOCH_KEYS, audit_key
from services.runtime.errors import MeshError
from services.storage.channel.peer import OwnPeer

EPOCH_MS = 60_000


class ChannelState:
    """The state at the own peer. Raises MeshError."""

    def __init__(self, peer: OwnPeer) -> None:
        self._peer = peer

    async def decide_emergency(
        self, signed: SignedCommand, charges: Sequence[EmergencyCharge]
    ) -> EmergencyDecision:
        """Whether an EmergencyAccess may be carried out now. `charges`: openings not on record yet."""
        asked = DecideEmergency(asked=signed, charges=charges)
        return (await self._ask(Query(decide_emergency=asked))).emergency

    async def newest_epoch(self) -> int:
        """The number of the newest epoch (minute) on the channel; 0: none."""
        return max(Epoch.FromString(value).number for value in await self._values(EPOCH_KEYS))

    async def audit_entries(self, commands: Sequence[tuple[str, str]]) -> list[AuditEntry | None]:
        """The entries of at most 1,000 commands, by id and signer. None: not on the channel."""
        if not commands:
            return []
        values = await self._values([audit_key(*one) for one in commands])
        return [AuditEntry.FromString(value) if value else None for value in values]

    async def _values(self, keys: Sequence[str]) -> list[bytes]:
        values = list((await self._ask(Query(get_keys=GetKeys(keys=keys)))).values)
        if len(values) != len(keys):
            raise MeshError.internal("the chaincode did not answer what was asked; look at its version")
        return values

    async def _ask(self, query: Query) -> QueryResult:
        try:
            return QueryResult.FromString(await self._peer.query(query.SerializeToString()))
        except DecodeError as exc:
            raise MeshError.internal("the chaincode's answer cannot be read") from exc


def stands_still(newest_epoch: int, now_ms: int) -> bool:
    """Whether a whole minute after the newest epoch has passed without one of its own.

    The rule is that of handle_emergency_access.go.
    """
    return now_ms // EPOCH_MS - newest_epoch >= 2
