"""The storage services of the other members, by mTLS across members."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError
from services.storage.domain.batch import MAX_MESSAGE_BYTES, Packed
from services.storage.domain.lease import Lease
from services.storage.store import receipts

# A channel tries again after at most 2 s: a member that has just come back is reached within this.
_CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class _Other:
    channel: grpc.aio.Channel
    stub: storage_pb2_grpc.MemberStorageServiceStub
    retries: RetryBudget


class MemberClients:
    """Calls to the other members, those in `msps`. Each raises MeshError and nothing else.

    Blocks and keys are asked for once, since another member may have them; a push waits for its member.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], *, fetch_seconds: float) -> None:
        self._fetch_seconds = fetch_seconds
        self._others = {
            msp: _Other(channel, storage_pb2_grpc.MemberStorageServiceStub(channel), RetryBudget())
            for msp, channel in channels.items()
        }

    @property
    def msps(self) -> tuple[str, ...]:
        """MSP ids of the members that can be called, the own one not among them."""
        return tuple(self._others)

    async def replicate(self, msp: str, packed: Packed, lease: Lease, seconds: float) -> ReplicaReceipt:
        """Have a member hold a CAR; gives its receipt, not verified."""
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
        """Have a member seal a data key to the reader; it sees for itself whether it may."""
        request = storage_pb2.ReleaseKeyRequest(tx_id=tx_id, command_id=command_id, envelope_header=header)
        answer = await call(self._others[msp].stub.ReleaseKey, request, deadline_seconds=seconds)
        return answer.sealed_data_key

    async def fetch_block(self, msp: str, cid: str) -> bytes:
        """A block as a member gives it, not checked."""
        request = storage_pb2.FetchBlockRequest(cid=cid)
        answer = await call(self._others[msp].stub.FetchBlock, request, deadline_seconds=self._fetch_seconds)
        return answer.block


async def _connected(channel: grpc.aio.Channel) -> None:
    """Wait for a connection instead of spending retries on there being none. Raises MeshError UNAVAILABLE."""
    if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
        return
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await channel.channel_ready()
    except TimeoutError as exc:
        raise MeshError(
            code_pb2.CODE_UNAVAILABLE, "the member's storage cannot be reached; send again"
        ) from exc
