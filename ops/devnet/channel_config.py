"""Changes of the channel's configuration, signed by the Fabric administrators of organisations."""

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.devnet.channel import peer, to_orderer
from ops.devnet.commands import run
from ops.devnet.layout import Home, tool
from ops.devnet.topology import CHANNEL, ORDERER, ORDERING, Ports, msp_id

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

    _update(home, Through(organisation), ports, change)


@dataclass(frozen=True)
class Through:
    """Who asks for a change, by whose orderer, and whose administrators sign it beside the asking one's."""

    organisation: str
    orderer: str = ORDERING
    also: Sequence[str] = ()


def fetch(home: Home, through: Through, ports: Ports, file: Path) -> dict[str, Any]:
    """Write the newest block of configuration that an orderer has to `file`; the configuration in it."""
    orderer = to_orderer(home, ports, through.orderer)
    peer(home, through.organisation, ports, ["channel", "fetch", "config", file, "-c", CHANNEL, *orderer])
    block = json.loads(_translate(home, "proto_decode", "common.Block", file))
    return block["data"]["data"][0]["payload"]["data"]["config"]


def is_consenter(config: dict[str, Any], organisation: str, ports: Ports) -> bool:
    """Whether the orderer of an organisation is one of those that agree on the order."""
    return any(_listens(each, organisation, ports) for each in consenters(config))


def remove_consenter(home: Home, through: Through, ports: Ports, organisation: str) -> None:
    """Have the orderer of an organisation count no longer: its Raft id is never given again.

    Raises:
        CommandFailed: too few signed, or the other orderers have no leader.
    """

    def change(config: dict[str, Any]) -> None:
        found = consenters(config)
        found[:] = [each for each in found if not _listens(each, organisation, ports)]

    _update(home, through, ports, change)


def add_consenter(home: Home, through: Through, ports: Ports, organisation: str) -> None:
    """Have the orderer of an organisation agree on the order from now on, under a Raft id that is new.

    Raises:
        CommandFailed: as `remove_consenter`.
    """
    certificate = home.organisation(organisation).orderer / "tls" / "server.crt"
    encoded = base64.b64encode(certificate.read_bytes()).decode()

    def change(config: dict[str, Any]) -> None:
        host, port = ports.host(organisation, ORDERER), ports.of(organisation, ORDERER)
        certificates = {"client_tls_cert": encoded, "server_tls_cert": encoded}
        consenters(config).append({"host": host, "port": port, **certificates})

    _update(home, through, ports, change)


def consenters(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Host, port and certificates of each orderer that agrees on the order, in the channel's sequence."""
    ordering = config["channel_group"]["groups"]["Orderer"]
    return ordering["values"]["ConsensusType"]["value"]["metadata"]["consenters"]


def _listens(consenter: dict[str, Any], organisation: str, ports: Ports) -> bool:
    where = ports.host(organisation, ORDERER), ports.of(organisation, ORDERER)
    return (consenter["host"], consenter["port"]) == where


def _update(home: Home, through: Through, ports: Ports, change: Callable[[dict[str, Any]], None]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = fetch(home, through, ports, folder / "block")
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
        for other in through.also:
            peer(home, other, ports, ["channel", "signconfigtx", "-f", folder / "envelope"])
        orderer = to_orderer(home, ports, through.orderer)
        update = ["channel", "update", "-f", folder / "envelope", "-c", CHANNEL, *orderer]
        peer(home, through.organisation, ports, update)


def _encode(home: Home, document: dict[str, Any], kind: str, file: Path) -> None:
    text = file.with_suffix(".json")
    text.write_text(json.dumps(document))
    _translate(home, "proto_encode", kind, text, "--output", file)


def _translate(home: Home, what: str, kind: str, file: Path, *more: str | Path) -> str:
    return run(home, [tool("configtxlator"), what, "--type", kind, "--input", file, *more])
