"""`cbmdhi consent`: grant, revoke, list."""

from __future__ import annotations

import json
import re
import time
from typing import Annotated, Any

import typer

from cbmdhi.cli import hints, shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.cli.trail import when
from cbmdhi.cli.wallet import role_named
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import Misuse, WalletError
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol.categories import CATEGORIES, PURPOSES

_MOST_DAYS = 36_500
# The last year of a date, in Unix ms: whoever signed by other means may have written anything.
_FAR_MS = 253_402_300_799_000

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
    days: Annotated[
        int | None,
        typer.Option(
            help=f"Days it holds, 1 to {_MOST_DAYS}; without it: until revoked.", show_default=False
        ),
    ] = None,
    deny: Annotated[bool, typer.Option("--deny", help="Forbid instead: deny wins over any permit.")] = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Permit (or deny) a person, a role or an organisation."""
    shared.guarded(lambda: shared.closed("--purpose", purpose or [], PURPOSES))
    shared.guarded(lambda: shared.closed("--category", category or [], CATEGORIES))
    line = provision(
        **shared.guarded(lambda: _grantee(to)),
        purposes=purpose,
        categories=category or [],
        record_ids=record or [],
        actions=action or [],
        valid_until_ms=shared.guarded(lambda: _until_ms(days)),
        deny=deny,
    )
    consent_id, receipt = shared.with_client(wallet, home, member, lambda client: client.consents.grant(line))
    if as_json:
        print(json.dumps({"consent_id": consent_id, "receipt": shared.plain(receipt)}))
    else:
        console.print(f"{shared.done('given', receipt.receipt.block)}; to take it back:")
        console.print(
            f"  {hints.Typist(home, wallet).command('consent', 'revoke', consent_id)}", soft_wrap=True
        )


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
    table, now_ms = shared.table("consent", "effect", "who", "for", "what", "until"), time.time() * 1000
    for consent in document.consents:
        for line in consent.provisions:
            who = ", ".join(_who(grantee) for grantee in line.grantees) or "anyone"
            what = ", ".join([*line.categories, *line.record_ids]) or "everything"
            effect = pb.Effect.Name(line.effect).removeprefix("EFFECT_").lower()
            purposes = ", ".join(line.purposes) or "anything"
            table.add_row(consent.consent_id, effect, who, purposes, what, _until(line, now_ms))
    console.print(table if document.consents else "no consent is in force: nobody but you may read")


def _until_ms(days: int | None) -> int:
    if days is None:
        return 0
    if not 1 <= days <= _MOST_DAYS:
        raise Misuse(
            f"a consent holds for 1 to {_MOST_DAYS} days; without --days until it is revoked", "days"
        )
    return int((time.time() + days * 86_400) * 1000)


def _until(line: pb.Provision, now_ms: float) -> str:
    """Until when it holds, by this machine's clock."""
    if not line.valid_until_ms:
        return "revoked"
    at = f"{line.valid_until_ms} ms" if line.valid_until_ms > _FAR_MS else f"{when(line.valid_until_ms)} UTC"
    return f"ended {at}" if line.valid_until_ms <= now_ms else at


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
