"""`cbmdhi operator-invite`, and why a program of a network on this machine does not run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cbmdhi.cli import hints, shared
from cbmdhi.cli.roles import role_named
from cbmdhi.cli.shared import HomeOption, JsonOption
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from ops.demo.cast import Stage
from ops.devnet import first_administrator as operators
from ops.devnet.errors import NotReady
from ops.devnet.layout import Home
from ops.devnet.supervision import Supervisor

# States of a program that supervisord does not start by itself.
_STANDS = ("STOPPED", "FATAL", "EXITED")


def operator_invite(
    organisation: Annotated[str, typer.Argument(help="The member whose registrar's key is here.")],
    address: Annotated[str, typer.Argument(help="Address of the first administrator's wallet.")],
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Invite a member's first administrator, with the registrar's key.

    Everybody after is invited by an administrator: cbmdhi invite.

    Examples:

        cbmdhi operator-invite mercy cb1zcynahh4slrtorcscddpcmjprqj3enok

        cbmdhi operator-invite lakeside cb1zcynahh4slrtorcscddpcmjprqj3enok --json
    """
    endpoints = operators.endpoints(home)
    members = [name for name, one in endpoints["organisations"].items() if "gateway" in one]
    if organisation not in members:
        known = ", ".join(members)
        raise MeshError(code_pb2.CODE_NOT_FOUND, f"no member {organisation!r}; there are: {known}")
    shared.check_address(address, home)
    stage = Stage.of(home, endpoints)
    registrar = endpoints["organisations"][organisation]["registrar"]
    secret = operators.invite(registrar, stage.fabric_ca_client, address, role_named("administrator"))
    if as_json:
        print(json.dumps({"address": address, "secret": secret}))
        return
    for line in hints.enrolment(home, address, secret):
        shared.console.print(line, soft_wrap=True, markup=False)


def why_down(home: Path, program: str) -> str | None:
    """Why a program of the network at `home` does not run, by its own supervisor; None when it may run."""
    network = Home(home)
    try:
        state = Supervisor(network).states().get(program)
    except NotReady:
        return f"the network at {network.path} is down"
    if state is None or state.state not in _STANDS:
        return None
    return f"{program} of the network at {network.path} is stopped"
