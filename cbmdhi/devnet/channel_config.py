"""Changes of the channel's configuration, signed by an organisation's Fabric administrator."""

import base64
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cbmdhi.devnet.channel import peer, to_orderer
from cbmdhi.devnet.commands import run
from cbmdhi.devnet.layout import Home, tool
from cbmdhi.devnet.topology import CHANNEL, Ports, msp_id

_CONFIG_UPDATE = 2  # common.HeaderType
# An organisation that also orders is in both, each with an MSP of its own to the channel.
_GROUPS = ("Application", "Orderer")


def set_revocations(home: Home, organisation: str, ports: Ports, crl_pem: bytes) -> None:
    """Put a revocation list (PEM) of the organisation's CA in place of the one that its MSP has.

    From that block on peers and orderers refuse whom it names. A later list names the earlier ones too.

    Raises:
        CommandFailed: the organisation's administrator may not, or peer or orderer are away.
    """
    encoded = base64.b64encode(crl_pem).decode()

    def change(config: dict[str, Any]) -> None:
        for group in _GROUPS:
            found = config["channel_group"]["groups"][group]["groups"].get(msp_id(organisation))
            if found is not None:
                found["values"]["MSP"]["value"]["config"]["revocation_list"] = [encoded]

    _update(home, organisation, ports, change)


def _update(home: Home, organisation: str, ports: Ports, change: Callable[[dict[str, Any]], None]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        orderer = to_orderer(home, ports)
        peer(
            home,
            organisation,
            ports,
            ["channel", "fetch", "config", folder / "block", "-c", CHANNEL, *orderer],
        )
        block = json.loads(_translate(home, "proto_decode", "common.Block", folder / "block"))
        config = block["data"]["data"][0]["payload"]["data"]["config"]
        _encode(home, config, "common.Config", folder / "was")
        change(config)
        _encode(home, config, "common.Config", folder / "wanted")
        run(
            home,
            [
                *(tool("configtxlator"), "compute_update", "--channel_id", CHANNEL),
                *("--original", folder / "was", "--updated", folder / "wanted"),
                *("--output", folder / "update"),
            ],
        )
        update = json.loads(_translate(home, "proto_decode", "common.ConfigUpdate", folder / "update"))
        header = {"channel_header": {"channel_id": CHANNEL, "type": _CONFIG_UPDATE}}
        envelope = {"payload": {"header": header, "data": {"config_update": update}}}
        _encode(home, envelope, "common.Envelope", folder / "envelope")
        peer(
            home,
            organisation,
            ports,
            ["channel", "update", "-f", folder / "envelope", "-c", CHANNEL, *orderer],
        )


def _encode(home: Home, document: dict[str, Any], kind: str, file: Path) -> None:
    text = file.with_suffix(".json")
    text.write_text(json.dumps(document))
    _translate(home, "proto_encode", kind, text, "--output", file)


def _translate(home: Home, what: str, kind: str, file: Path, *more: str | Path) -> str:
    return run(home, [tool("configtxlator"), what, "--type", kind, "--input", file, *more])
