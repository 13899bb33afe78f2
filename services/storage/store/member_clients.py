"""The storage services of the other members, by mTLS across members."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from cbmdhi.command.v1.state_pb2 import ReplicaReceipt
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError
from services.storage.domain.batch import MAX_MESSAGE_BYTES, Packed
from services.storage.domain.lease import Lease
from services.storage.store import receipts

# A channel reconnects after at most 2 s, so a member that has just come back is reached in this time.
_CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class _Other:
    channel: grpc.aio.Channel
    stub: storage_pb2_grpc.MemberStorageServiceStub
    retries: RetryBudget


class MemberClients:
    """Calls to the other members. Each raises MeshError and nothing else.

    Calls for blocks and keys are not repeated, since another member may have them. A push is repeated.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], *, fetch_seconds: float) -> None:
        self._fetch_seconds = fetch_seconds
        self._others = {
            msp: _Other(channel, storage_pb2_grpc.MemberStorageServiceStub(channel), RetryBudget())
            for msp, channel in channels.items()
        }

    @property
    def msps(self) -> tuple[str, ...]:
        """MSP ids of the other members."""
        return tuple(self._others)

    async def replicate(self, msp: str, packed: Packed, lease: Lease, seconds: float) -> ReplicaReceipt:
        """Ask a member to hold a CAR; gives its receipt, not verified."""
        other = self._others[msp]
        await _connected(other.channel)
        answer = await call(
            other.stub.Replicate,
            storage_pb2.ReplicateRequest(
                car=packed.car,
                root_cid=packed.root_cid,
                contents=receipts.named(lease),
            ),
            deadline_seconds=seconds,
            retries=other.retries,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        return answer.receipt

    async def release_key(
        self, msp: str, tx_id: str, command_id: str, header: bytes, seconds: float
    ) -> bytes:
        """Ask a member to seal a data key to the reader. It checks the decision itself."""
        request = storage_pb2.ReleaseKeyRequest(tx_id=tx_id, command_id=command_id, envelope_header=header)
        answer = await call(self._others[msp].stub.ReleaseKey, request, deadline_seconds=seconds)
        return answer.sealed_data_key

    async def fetch_block(self, msp: str, cid: str) -> bytes:
        """A block from a member, not checked."""
        request = storage_pb2.FetchBlockRequest(cid=cid)
        answer = await call(self._others[msp].stub.FetchBlock, request, deadline_seconds=self._fetch_seconds)
        return answer.block


async def _connected(channel: grpc.aio.Channel) -> None:
    """Wait for a connection, so that no retries are spent without one. Raises MeshError UNAVAILABLE."""
    if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
        return
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await channel.channel_ready()
    except TimeoutError as exc:
        raise MeshError.unavailable("the member's storage cannot be reached; send again") from exc
