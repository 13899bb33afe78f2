"""`cbmdhi`: the command line of users and operators."""

from __future__ import annotations

import json
from typing import Annotated

import typer

import cbmdhi
from bench.load import cli
from cbmdhi.cli import consent, emergency, records, resend, revoke, shared, staff, trail, wallet
from cbmdhi.cli.shared import HomeOption, JsonOption
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from ops.cli import backup, demo, network, trace
from ops.demo.cast import Stage
from ops.devnet import first_administrator as operators

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="CBMDHI: hospitals share records through a consortium blockchain; the patient holds the keys.",
)

NETWORK, PEOPLE, RECORDS, TRAIL = "The laptop network", "Identities", "Records and consent", "Trail and proof"

network.register(app, panel=NETWORK)
backup.register(app, panel=NETWORK)
app.command("demo", rich_help_panel=NETWORK)(demo.demo)
app.command("hammer", rich_help_panel=NETWORK)(cli.hammer)
app.command("trace", rich_help_panel=NETWORK)(trace.trace)
app.add_typer(wallet.app, name="wallet", rich_help_panel=PEOPLE)
app.command("invite", rich_help_panel=PEOPLE)(staff.invite)
app.command("revoke", rich_help_panel=PEOPLE)(revoke.revoke)
app.add_typer(staff.review, name="review", rich_help_panel=PEOPLE)
app.command("put", rich_help_panel=RECORDS)(records.put)
app.command("resend", rich_help_panel=RECORDS)(resend.resend)
app.command("get", rich_help_panel=RECORDS)(records.get)
app.command("list", rich_help_panel=RECORDS)(records.list_records)
app.add_typer(consent.app, name="consent", rich_help_panel=RECORDS)
app.add_typer(emergency.app, name="emergency", rich_help_panel=RECORDS)
app.command("audit", rich_help_panel=TRAIL)(trail.audit)
app.command("inbox", rich_help_panel=TRAIL)(trail.inbox)
app.command("verify", rich_help_panel=TRAIL)(trail.verify)


@app.command("operator-invite", rich_help_panel=PEOPLE)
def operator_invite(
    organisation: Annotated[str, typer.Argument(help="The member whose registrar's key is here.")],
    address: Annotated[str, typer.Argument(help="Address of the first administrator's wallet.")],
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Invite a member's first administrator, with the registrar's key (operators)."""

    def work() -> str:
        endpoints = operators.endpoints(home)
        if organisation not in endpoints["organisations"]:
            known = ", ".join(endpoints["organisations"])
            raise MeshError(code_pb2.CODE_NOT_FOUND, f"no organisation {organisation!r}; there are: {known}")
        stage = Stage.of(home, endpoints)
        registrar = endpoints["organisations"][organisation]["registrar"]
        role = wallet.role_named("administrator")
        return operators.invite(registrar, stage.fabric_ca_client, address, role)

    secret = shared.guarded(work)
    if as_json:
        print(json.dumps({"address": address, "secret": secret}))
    else:
        shared.console.print(f"secret, shown once: {secret}")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """CBMDHI: hospitals share records through a consortium blockchain; the patient holds the keys."""
    if show:
        print(cbmdhi.__version__)
        raise typer.Exit


if __name__ == "__main__":
    app()
