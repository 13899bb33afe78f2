"""`cbmdhi consent`: grant, revoke, list."""

from __future__ import annotations

import json
import re
import time
from typing import Annotated, Any

import typer

from cbmdhi.cli import shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.cli.wallet import role_named
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.devnet.layout import command_for
from cbmdhi.errors import WalletError
from cbmdhi.protocol import address as addresses

app = typer.Typer(
    no_args_is_help=True, help="Who may see what, for what, until when. Signed by the patient in person."
)


@app.command()
def grant(
    to: Annotated[str, typer.Argument(help="An address, a role, MSP:role, or an MSP id.")],
    purpose: Annotated[
        list[str] | None, typer.Option(help="Purpose of use; repeat. Default: TREAT; of a deny: all.")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="Data category; repeat. Default all.")] = None,
    record: Annotated[list[str] | None, typer.Option(help="Record id; repeat. Default all.")] = None,
    action: Annotated[
        list[str] | None, typer.Option(help="read, search, history, export, event, write; repeat.")
    ] = None,
    days: Annotated[int, typer.Option(help="Days it holds; 0: until revoked.")] = 0,
    deny: Annotated[bool, typer.Option("--deny", help="Forbid instead: deny wins over any permit.")] = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Permit (or deny) a person, a role or an organisation."""
    line = provision(
        **shared.guarded(lambda: _grantee(to)),
        purposes=purpose,
        categories=category or [],
        record_ids=record or [],
        actions=action or [],
        valid_until_ms=int((time.time() + days * 86_400) * 1000) if days else 0,
        deny=deny,
    )
    consent_id, receipt = shared.with_client(wallet, home, member, lambda client: client.consents.grant(line))
    if as_json:
        print(json.dumps({"consent_id": consent_id, "receipt": shared.plain(receipt)}))
    else:
        console.print(f"{shared.done('given', receipt.receipt.block)}; to take it back:")
        console.print(f"  {command_for(home, 'consent', 'revoke', consent_id)}", soft_wrap=True)


@app.command()
def revoke(
    consent_id: str,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take a consent back: the next reading under it is refused, and its id is never given again."""
    receipt = shared.with_client(wallet, home, member, lambda client: client.consents.revoke(consent_id))
    if as_json:
        print(json.dumps(shared.plain(receipt)))
    else:
        console.print(shared.done("revoked", receipt.receipt.block))


@app.command("list")
def list_consents(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the consents in force."""
    document = shared.with_client(wallet, home, member, lambda client: client.consents.list())
    if as_json:
        print(json.dumps(shared.plain(document)))
        return
    table = shared.table("consent", "effect", "who", "for", "what")
    for consent in document.consents:
        for line in consent.provisions:
            who = ", ".join(_who(grantee) for grantee in line.grantees) or "anyone"
            what = ", ".join([*line.categories, *line.record_ids]) or "everything"
            effect = pb.Effect.Name(line.effect).removeprefix("EFFECT_").lower()
            table.add_row(consent.consent_id, effect, who, ", ".join(line.purposes) or "anything", what)
    console.print(table if document.consents else "no consent is in force: nobody but you may read")


def _grantee(text: str) -> dict[str, Any]:
    if addresses.is_address(text):
        return {"grantee": text}
    msp, colon, role = text.partition(":")
    if colon:
        return {"msp": msp, "role": role_named(role)}
    return {"msp": text} if re.fullmatch(r"\w+MSP", text) else {"role": _role_or_explain(text)}


def _role_or_explain(text: str) -> int:
    try:
        return role_named(text)
    except WalletError as error:
        raise WalletError(
            f"{text!r} is no address, no MSP id and no role: give cb1…, LakesideMSP or clinician"
        ) from error


def _who(grantee: pb.Grantee) -> str:
    role = pb.Role.Name(grantee.role).removeprefix("ROLE_").lower() if grantee.role else ""
    return " ".join(part for part in (grantee.address, grantee.msp, role) if part)
