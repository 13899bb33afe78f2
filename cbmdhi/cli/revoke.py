"""`cbmdhi revoke`: a stolen key, or somebody who has left, is refused everywhere from now on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cbmdhi import operator as operators
from cbmdhi.cli import shared
from cbmdhi.cli.shared import HomeOption, JsonOption
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.demo.cast import Stage
from cbmdhi.devnet import DevnetError, Network, channel_config
from cbmdhi.devnet.fabric_ca import FabricCa, forget_client
from cbmdhi.errors import MeshError
from cbmdhi.protocol import address as addresses

# Our reasons, and RFC 5280's.
_REASONS = {
    "lost-key": "keycompromise",
    "left": "cessationofoperation",
    "misuse": "privilegewithdrawn",
    "other": "unspecified",
}


def revoke(
    organisation: Annotated[str, typer.Argument(help="Whose Fabric CA it was that certified them.")],
    name: Annotated[
        str, typer.Argument(help="An address; or a program that speaks to peers, such as ledger.")
    ],
    reason: Annotated[str, typer.Option(help=f"{', '.join(_REASONS)}.")] = "lost-key",
    wallet: Annotated[
        str,
        typer.Option(
            "--wallet",
            "-w",
            envvar="CBMDHI_WALLET",
            help="The member's administrator, who suspends the address on the channel too.",
        ),
    ] = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Revoke at the Fabric CA, tell peers and orderers, suspend on the channel (operators). Repeatable."""

    def work() -> dict[str, Any]:
        if reason not in _REASONS:
            raise MeshError(code_pb2.CODE_INVALID, f"the reason is one of {', '.join(_REASONS)}", "reason")
        if addresses.is_address(name) and not wallet:
            raise MeshError(
                code_pb2.CODE_INVALID,
                "an address is suspended too: give the administrator's --wallet",
                "wallet",
            )
        try:
            _at_the_authority(home, organisation, name, reason)
        except DevnetError as failed:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, str(failed)) from failed
        return {
            "revoked": name,
            "suspended_in_block": _on_the_channel(home, organisation, name, reason, wallet),
        }

    done = shared.guarded(work)
    if as_json:
        print(json.dumps(done))
        return
    block = done["suspended_in_block"]
    shared.console.print(
        "[green]revoked[/green] at the Fabric CA and for every peer and orderer"
        + (f"; suspended in block {block}" if block else "")
    )


def _at_the_authority(home: Path, organisation: str, name: str, reason: str) -> None:
    """At the CA, and in the organisation's MSP on the channel."""
    network = Network(home)
    described = operators.endpoints(home)
    if organisation not in network.files.members:
        known = ", ".join(network.files.members)
        raise MeshError(code_pb2.CODE_NOT_FOUND, f"no member {organisation!r}; there are: {known}")
    registrar = described["organisations"][organisation]["registrar"]
    program = Stage.of(home, described).fabric_ca_client
    if addresses.is_address(name):
        operators.revoke(registrar, program, name, _REASONS[reason])
    else:
        # The registrar may touch no identity that a peer hears.
        ca = FabricCa(network.files, organisation, network.ports())
        ca.begin()
        try:
            ca.revoke(name, _REASONS[reason])
        finally:
            forget_client(network.files, organisation)
    crl = operators.revocation_list(registrar, program)
    channel_config.set_revocations(network.files, organisation, network.ports(), crl)


def _on_the_channel(home: Path, organisation: str, name: str, reason: str, wallet: str) -> int:
    """The block in which an address was suspended; 0 for who is not registered, or a program."""
    if not addresses.is_address(name):
        return 0

    async def work(client: Client) -> int:
        try:
            return (await client.registration.suspend(name, reason)).block
        except MeshError as error:
            if error.code != code_pb2.CODE_NOT_FOUND:
                raise
            return 0

    return shared.with_client(wallet, home, organisation, work)
