"""What a channel's configuration block says: who its members are, who orders, and whose signatures count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from . import _protos as fabric
from .errors import MalformedMessage

_BFT = "BFT"


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """members     PEM of the identity roots of each application organisation, by MSP id
    orderers    the same of the organisations that order
    consenters  of a BFT channel: MSP id and certificate (PEM) by consenter id; empty for Raft
    quorum      how many orderers have to sign a block: 1 with Raft, with BFT as many as always share an
                honest one (protoutil.ComputeBFTQuorum)
    """

    members: Mapping[str, str]
    orderers: Mapping[str, str]
    consenters: Mapping[int, tuple[str, bytes]]
    quorum: int


def application_msp_ids(block: bytes) -> tuple[str, ...]:
    """MSP ids of the application organisations, sorted, from a serialized configuration block."""
    return tuple(sorted(channel_config(block).members))


def channel_config(block: bytes) -> ChannelConfig:
    """From a serialized configuration block. Raises MalformedMessage."""
    try:
        envelope = fabric.common.Envelope.FromString(fabric.common.Block.FromString(block).data.data[0])
        payload = fabric.common.Payload.FromString(envelope.payload)
        channel = fabric.configtx.ConfigEnvelope.FromString(payload.data).config.channel_group
        ordering = channel.groups["Orderer"]
        kind = fabric.orderer.ConsensusType.FromString(ordering.values["ConsensusType"].value).type
        consenters = _consenters(ordering) if kind == _BFT else {}
        return ChannelConfig(
            _roots(channel.groups["Application"]),
            _roots(ordering),
            consenters,
            _quorum(len(consenters)) if kind == _BFT else 1,
        )
    except (DecodeError, IndexError, UnicodeDecodeError) as exc:
        raise MalformedMessage("not a configuration block") from exc


def _roots(group: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for organisation in group.groups.values():
        wrapped = fabric.msp_config.MSPConfig.FromString(organisation.values["MSP"].value)
        msp = fabric.msp_config.FabricMSPConfig.FromString(wrapped.config)
        found[msp.name] = b"\n".join(msp.root_certs).decode()
    return found


def _consenters(ordering: Any) -> dict[int, tuple[str, bytes]]:
    mapping = fabric.configuration.Orderers.FromString(ordering.values["Orderers"].value)
    return {one.id: (one.msp_id, one.identity) for one in mapping.consenter_mapping}


def _quorum(consenters: int) -> int:
    faulty = (consenters - 1) // 3
    return (consenters + faulty + 2) // 2
