"""Who is asked to endorse, and what travels to whom, when a member is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

import fabric_gateway as fabric
from cbmdhi.command.v1.state_pb2 import SealedKey, SealedKeys
from cbmdhi.protocol.state_keys import sealed_record_key_name, sealed_writer_key_name
from services.ledger.channel.fabric_channel import EndorsedBatch, FabricChannel
from services.ledger.domain.batches import holders

LAKESIDE, MERCY, NORTHGATE = "LakesideMSP", "MercyMSP", "NorthgateMSP"


@dataclass
class Peers:
    """Plays the contract and the network: who is away does not endorse."""

    away: set[str] = field(default_factory=set)
    proposals: list[tuple[str, set[str], set[str]]] = field(default_factory=list)

    async def application_msp_ids(self) -> tuple[str, ...]:
        return (LAKESIDE, MERCY, NORTHGATE)

    def propose(
        self, function: str, argument: bytes, *, transient: dict[str, bytes], organisations: Sequence[str]
    ) -> Any:
        keys = SealedKeys.FromString(transient.get("sealed_keys", b"")).keys
        self.proposals.append((function, set(organisations), {key.msp for key in keys}))
        missing = [msp for msp in organisations if msp in self.away]

        async def endorse() -> object:
            if missing:
                failures = tuple(fabric.PeerFailure("peer", msp, "connection refused") for msp in missing)
                raise fabric.EndorseError(grpc.StatusCode.ABORTED, "too few endorsements", failures)
            return object()

        return SimpleNamespace(endorse=endorse)


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
def channel(peers: Peers) -> FabricChannel:
    channel = FabricChannel(SimpleNamespace(msp_id=MERCY, chaincode="mesh"))  # type: ignore[arg-type]
    channel._network = channel._contract = peers  # type: ignore[assignment]
    return channel


def sealed_for(name: str, *members: str) -> tuple[SealedKey, ...]:
    return tuple(SealedKey(msp=msp, key=name, sealed=b"sealed") for msp in members)


async def endorsed(channel: FabricChannel, keys: Sequence[SealedKey]) -> EndorsedBatch:
    return await channel.endorse(b"a batch", keys, holders(keys))


async def test_a_custodian_that_is_away_neither_endorses_nor_is_sent_a_writer_key(
    channel: FabricChannel, peers: Peers
) -> None:
    keys = sealed_for(sealed_writer_key_name(MERCY, "1"), MERCY, LAKESIDE)
    await endorsed(channel, keys)
    peers.away = {LAKESIDE}
    with pytest.raises(fabric.EndorseError):
        await endorsed(channel, keys)

    await endorsed(channel, keys)

    there, first_try, then = peers.proposals
    assert there == first_try == ("process", {MERCY, LAKESIDE}, {MERCY, LAKESIDE})
    assert then == ("process", {MERCY, NORTHGATE}, {MERCY})


async def test_a_record_key_is_never_left_behind(channel: FabricChannel, peers: Peers) -> None:
    peers.away = {LAKESIDE}
    for _ in range(2):
        with pytest.raises(fabric.EndorseError):
            await endorsed(channel, sealed_for(sealed_record_key_name("somebody"), MERCY, LAKESIDE))

    assert {frozenset(keys) for _, _, keys in peers.proposals} == {frozenset({MERCY, LAKESIDE})}


async def test_a_late_key_is_delivered_with_its_custodian(channel: FabricChannel, peers: Peers) -> None:
    peers.away = {LAKESIDE}
    with pytest.raises(fabric.EndorseError):
        await channel.deliver(sealed_for(sealed_writer_key_name(MERCY, "1"), LAKESIDE))
    peers.away = set()

    await channel.deliver(sealed_for(sealed_writer_key_name(MERCY, "1"), LAKESIDE))

    assert peers.proposals == [("deliver", {MERCY, LAKESIDE}, {LAKESIDE})] * 2
