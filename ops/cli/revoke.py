"""`cbmdhi revoke`: a stolen key, or somebody who has left, is refused everywhere from now on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from cbmdhi.cli import boundary, prefixes, shared
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.shared import HomeOption, JsonOption
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import address as addresses
from cbmdhi.wallet import Wallet
from ops.demo.cast import Stage
from ops.devnet import DevnetError, Network, channel_config
from ops.devnet import first_administrator as operators
from ops.devnet.fabric_ca import FabricCa, forget_client

# Our reasons, and RFC 5280's.
_REASONS = {
    "lost-key": "keycompromise",
    "left": "cessationofoperation",
    "misuse": "privilegewithdrawn",
    "other": "unspecified",
}


class Suspending(Protocol):
    """What suspends (`Client.registration`)."""

    async def suspend(self, address: str, reason_code: str) -> Receipt: ...

    async def identity(self, address: str) -> state_pb2.IdentityDocument: ...


def revoke(
    organisation: Annotated[str, typer.Argument(help="Whose Fabric CA it was that certified them.")],
    name: Annotated[
        str,
        typer.Argument(
            help="An address, or its beginning of a wallet under HOME; or a program that speaks to peers, "
            "such as ledger."
        ),
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
    """Refuse a stolen key, or who has left, everywhere from now on.

    Revokes at the Fabric CA, tells peers and orderers, and suspends on the channel. Can be repeated.

    Examples:

        cbmdhi revoke mercy cb1zcynahh4slrtorcscddpcmjprqj3enok --reason left -w mercy-administrator

        cbmdhi revoke lakeside ledger --reason lost-key
    """

    name = shared.check_address(name, home) if prefixes.may_begin_address(name) else name

    def work() -> dict[str, Any]:
        if reason not in _REASONS:
            raise Misuse(f"the reason is one of {', '.join(_REASONS)}", "reason")
        if addresses.is_address(name) and not wallet:
            raise Misuse("an address is suspended too: give the administrator's --wallet", "wallet")
        if addresses.is_address(name):
            _check_wallet(shared.open_wallet(wallet, home), organisation)
        done: list[str] = []
        try:
            _at_the_authority(home, organisation, name, reason, done)
            return {"revoked": name, **_on_the_channel(home, organisation, name, reason, wallet)}
        except DevnetError as failed:
            raise _after(done, MeshError(code_pb2.CODE_UNAVAILABLE, str(failed))) from failed
        except MeshError as failed:
            raise _after(done, failed) from failed

    done = work()
    if as_json:
        print(json.dumps(done))
        return
    block = done["suspended_in_block"]
    shared.console.print(
        "[green]revoked[/green] at the Fabric CA and for every peer and orderer"
        + (f"; suspended, the members' peers hold it (block {block}, says the gateway)" if block else "")
        + ("; suspended on the channel already" if done["suspended_already"] else "")
    )


def _check_wallet(given: Wallet, organisation: str) -> None:
    """Before anything is done: whom the channel would refuse afterwards."""
    home = given.consortium.member_named(given.member)
    if organisation not in (home.name, home.msp_id) or given.role != pb.ROLE_ADMINISTRATOR:
        raise MeshError(
            code_pb2.CODE_FORBIDDEN,
            f"only an administrator of {organisation} suspends its people: give theirs; nothing was done",
            "wallet",
        )


def _after(done: list[str], failed: MeshError) -> Failure:
    """What went wrong, and what was done before it."""
    told = boundary.failure_of(failed)
    if done:
        told.status = Status.FAILED
        so_far = " and ".join(done)
        told.reason += f"; but it is {so_far} already: mend that, and run it again, which does the rest"
    return told


def _at_the_authority(home: Path, organisation: str, name: str, reason: str, done: list[str]) -> None:
    """At the CA, and in the organisation's MSP on the channel. What was done is put into `done`."""
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
        _revoke_program(network, organisation, name, reason)
    done.append("revoked at the Fabric CA")
    crl = operators.revocation_list(registrar, program)
    channel_config.set_revocations(network.files, organisation, network.ports(), crl)
    done.append("for every peer and orderer")


def _revoke_program(network: Network, organisation: str, name: str, reason: str) -> None:
    """By the CA's own administrator: the registrar may touch no identity that a peer hears."""
    ca = FabricCa(network.files, organisation, network.ports())
    ca.begin()
    try:
        ca.revoke(name, _REASONS[reason])
    except DevnetError as failed:
        if operators.is_unknown(str(failed)):
            raise operators.unknown() from failed
        raise
    finally:
        forget_client(network.files, organisation)


def _on_the_channel(home: Path, organisation: str, name: str, reason: str, wallet: str) -> dict[str, Any]:
    """The block in which an address was suspended; 0 for who is not registered, or a program, or who was
    suspended before."""
    if not addresses.is_address(name):
        return {"suspended_in_block": 0, "suspended_already": False}

    async def work() -> dict[str, Any]:
        async with Client(shared.open_wallet(wallet, home), organisation) as client:
            block, already = await suspended(client.registration, name, reason)
            return {"suspended_in_block": block, "suspended_already": already}

    return asyncio.run(work())


async def suspended(registration: Suspending, address: str, reason: str) -> tuple[int, bool]:
    """The block in which an address is suspended now, or 0; and whether it was suspended already."""
    try:
        return (await registration.suspend(address, reason)).block, False
    except MeshError as error:
        if error.code == code_pb2.CODE_NOT_FOUND:
            return 0, False
        if error.code != code_pb2.CODE_CONFLICT:
            raise
        known = await registration.identity(address)
        if known.status != state_pb2.IDENTITY_STATUS_SUSPENDED:
            raise
        return 0, True
