"""Questions about emergencies: whether the channel stands still, and what was opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cbmdhi.storage.v1 import storage_pb2
from services.storage.channel.state import ChannelState, stands_still
from services.storage.emergency.log import EmergencyLog, Kept
from services.storage.emergency.opener import EmergencyOpener

_MOST = 500


@dataclass(frozen=True)
class EmergencyQueries:
    """Raises MeshError."""

    opener: EmergencyOpener
    channel_state: ChannelState
    log: EmergencyLog
    now_ms: Callable[[], int]

    async def standstill(self) -> storage_pb2.GetStandstillResponse:
        """Whether the channel stands still at the own peer, and its newest epoch."""
        newest = await self.channel_state.newest_epoch()
        return storage_pb2.GetStandstillResponse(
            stands_still=stands_still(newest, self.now_ms()), newest_epoch=newest
        )

    async def kept(self, *, unrecorded_only: bool) -> storage_pb2.ListEmergenciesResponse:
        """The openings in the log, newest first, at most 500."""
        found = await self.log.newest(_MOST, unrecorded_only=unrecorded_only)
        return storage_pb2.ListEmergenciesResponse(emergencies=[_message(one) for one in found])


def _message(one: Kept) -> storage_pb2.KeptEmergency:
    return storage_pb2.KeptEmergency(
        command=one.signed,
        opened_at_ms=one.opened_ms,
        told=one.told,
        recorded=one.recorded_ms > 0,
        objection=one.objection,  # pyright: ignore[reportArgumentType]
    )
