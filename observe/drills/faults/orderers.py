"""A second orderer, so that a majority can be lost: two consenters need both of them.

The laptop network's one orderer leads whenever it runs. `join` enrols another, has it join the channel as a
consenter and waits until both are active; `leave` takes it out of the channel again, while both run.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cbmdhi.devnet import Network, health, processes
from cbmdhi.devnet.commands import environment, run
from cbmdhi.devnet.errors import DevnetError
from cbmdhi.devnet.fabric_ca import FabricCa, Identity, forget_client, write_msp, write_tls
from cbmdhi.devnet.layout import Organisation, tool
from cbmdhi.devnet.templates import fill, write
from cbmdhi.devnet.topology import CHANNEL, MEMBERS, ORDERING, msp_id
from cbmdhi.devnet.waiting import until

NAME = "orderer2"
_PORTS = ("port", "admin_address", "operations_address")
_ACTIVE = f'consensus_etcdraft_active_nodes{{channel="{CHANNEL}"}}'
_SECONDS = 30


class Orderers:
    """The second orderer of a network. Raises DevnetError."""

    def __init__(self, network: Network, free_port: Callable[[], int]) -> None:
        self._network = network
        self._files = network.files
        self._ports = network.ports()
        self._free_port = free_port
        self._ordering: Organisation = network.files.organisation(ORDERING)
        self._folder = self._ordering.root / NAME
        self._pid_file = self._folder / "pid"
        self._port_file = self._folder / "port"

    def join(self) -> None:
        """Make it, start it, and have it join."""
        if self._pid_file.exists():
            raise DevnetError("There is a second orderer already.")
        self._enrol()
        self._configure()
        self._change(self._with_it)
        block = self._folder / "config.block"
        self._fetch(block)
        self.start()
        tls = self._ordering.admin / "tls"
        run(
            self._files,
            [
                *(tool("osnadmin"), "channel", "join", "--channelID", CHANNEL, "--config-block", block),
                *("--orderer-address", self._admin_address()),
                *("--ca-file", tls / "ca.crt"),
                *("--client-cert", tls / "server.crt", "--client-key", tls / "server.key"),
            ],
        )
        self._wait_active(2)

    def start(self) -> None:
        """Start it; it belongs to the network, which ends it with the rest."""
        marks = processes.marks(self._network.home, f"{ORDERING}-{NAME}")
        settings = {"FABRIC_CFG_PATH": str(self._folder), "FABRIC_LOGGING_SPEC": "warning"}
        with (self._files.logs / f"{ORDERING}-{NAME}.log").open("ab") as log:
            started = subprocess.Popen(
                [tool("orderer")],
                env=environment({**settings, **marks}),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid_file.write_text(f"{started.pid}\n")
        until(lambda: health.get(self._admin_address_plain(), "/healthz")[0] == 200 or None, NAME, _SECONDS)

    def leave(self) -> None:
        """Have one consenter again, and end the second."""
        self._wait_active(2)
        self._change(self._without_it)
        self._wait_active(1)
        with suppress(ProcessLookupError):
            os.kill(int(self._pid_file.read_text()), signal.SIGTERM)
        self._pid_file.unlink()

    def _enrol(self) -> None:
        ca = FabricCa(self._files, ORDERING, self._ports)
        ca.begin()
        try:
            write_msp(self._folder / "msp", self._ordering, ca.identity(Identity(NAME, "orderer")))
            made = ca.tls(NAME, f"{NAME}.{ORDERING}")
            write_tls(self._folder / "tls", made, self._ordering.tls_ca_certificate)
        finally:
            forget_client(self._files, ORDERING)

    def _configure(self) -> None:
        ports = [self._free_port() for _ in _PORTS]
        self._port_file.write_text(json.dumps(dict(zip(_PORTS, ports, strict=True))))
        folder = self._folder
        write(
            folder / "orderer.yaml",
            fill(
                "fabric/orderer.yaml",
                port=ports[0],
                msp_id=msp_id(ORDERING),
                admin_address=f"127.0.0.1:{ports[1]}",
                operations_address=f"127.0.0.1:{ports[2]}",
                msp_directory=folder / "msp",
                data_directory=folder / "data",
                wal_directory=folder / "data" / "etcdraft" / "wal",
                snapshot_directory=folder / "data" / "etcdraft" / "snapshot",
                tls_certificate=folder / "tls" / "server.crt",
                tls_key=folder / "tls" / "server.key",
                tls_ca=folder / "tls" / "ca.crt",
            ),
        )

    def _port(self, name: str) -> int:
        return int(json.loads(self._port_file.read_text())[name])

    def _admin_address(self) -> str:
        return f"127.0.0.1:{self._port('admin_address')}"

    def _admin_address_plain(self) -> str:
        return f"127.0.0.1:{self._port('operations_address')}"

    def _with_it(self, consenters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        certificate = base64.b64encode((self._folder / "tls" / "server.crt").read_bytes()).decode()
        mine = {
            "host": "127.0.0.1",
            "port": self._port("port"),
            "client_tls_cert": certificate,
            "server_tls_cert": certificate,
        }
        return [*consenters, mine]

    def _without_it(self, consenters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in consenters if one["port"] != self._port("port")]

    def _change(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """A configuration update of the channel, as the ordering organisation's administrator."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._fetch(folder / "block")
            block = self._decoded(folder / "block", "common.Block")
            config = block["data"]["data"][0]["payload"]["data"]["config"]
            self._encode(config, "common.Config", folder / "was")
            metadata = config["channel_group"]["groups"]["Orderer"]["values"]["ConsensusType"]["value"][
                "metadata"
            ]
            metadata["consenters"] = change(metadata["consenters"])
            self._encode(config, "common.Config", folder / "wanted")
            run(
                self._files,
                [
                    *(tool("configtxlator"), "compute_update", "--channel_id", CHANNEL),
                    *("--original", folder / "was", "--updated", folder / "wanted"),
                    *("--output", folder / "update"),
                ],
            )
            update = self._decoded(folder / "update", "common.ConfigUpdate")
            header = {"channel_header": {"channel_id": CHANNEL, "type": 2}}
            envelope = {"payload": {"header": header, "data": {"config_update": update}}}
            self._encode(envelope, "common.Envelope", folder / "envelope")
            self._peer("channel", "update", "-f", folder / "envelope", "-c", CHANNEL)

    def _fetch(self, block: Path) -> None:
        self._peer("channel", "fetch", "config", block, "-c", CHANNEL)

    def _peer(self, *arguments: str | Path) -> None:
        """A command of `peer` to the orderer."""
        orderer = self._ports.address(ORDERING, "orderer")
        root = self._ordering.tls_ca_certificate
        run(
            self._files,
            [tool("peer"), *arguments, "-o", orderer, "--tls", "--cafile", root],
            {
                "FABRIC_CFG_PATH": str(self._files.organisation(MEMBERS[0]).peer),
                "FABRIC_LOGGING_SPEC": "warning",
                "CORE_PEER_LOCALMSPID": msp_id(ORDERING),
                "CORE_PEER_MSPCONFIGPATH": str(self._ordering.admin / "msp"),
            },
        )

    def _decoded(self, file: Path, kind: str) -> dict[str, Any]:
        translator = tool("configtxlator")
        return json.loads(run(self._files, [translator, "proto_decode", "--type", kind, "--input", file]))

    def _encode(self, document: dict[str, Any], kind: str, file: Path) -> None:
        text = file.with_suffix(".json")
        text.write_text(json.dumps(document))
        arguments = ["proto_encode", "--type", kind, "--input", text, "--output", file]
        run(self._files, [tool("configtxlator"), *arguments])

    def _wait_active(self, count: int) -> None:
        """As the first orderer sees it."""
        address = self._ports.address(ORDERING, "orderer_operations")

        def active() -> bool:
            _, body = health.get(address, "/metrics")
            return f"{_ACTIVE} {count}\n" in body.decode(errors="replace")

        until(lambda: active() or None, f"{count} active consenters", _SECONDS)
