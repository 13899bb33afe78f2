"""What a channel's configuration block says about its members."""

from google.protobuf.message import DecodeError

from . import _protos as fabric
from .errors import MalformedMessage


def application_msp_ids(block: bytes) -> tuple[str, ...]:
    """MSP ids of the application organisations, sorted, from a serialized configuration block."""
    try:
        envelope = fabric.common.Envelope.FromString(fabric.common.Block.FromString(block).data.data[0])
        payload = fabric.common.Payload.FromString(envelope.payload)
        config = fabric.configtx.ConfigEnvelope.FromString(payload.data).config
        organisations = config.channel_group.groups["Application"].groups
        return tuple(sorted(_msp_id(group.values["MSP"].value) for group in organisations.values()))
    except (DecodeError, IndexError) as exc:
        raise MalformedMessage("not a configuration block") from exc


def _msp_id(value: bytes) -> str:
    return fabric.msp_config.FabricMSPConfig.FromString(
        fabric.msp_config.MSPConfig.FromString(value).config
    ).name
