"""`cbmdhi consent`: grant, revoke, list."""

from __future__ import annotations

import json
import time
from collections.abc import MutableSequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cbmdhi.cli import hints, mistyped, prefixes, shared
from cbmdhi.cli.listing import when
from cbmdhi.cli.records import record_named
from cbmdhi.cli.roles import ROLES, name_of_role, role_named
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import ActiveConsent
from cbmdhi.errors import Misuse
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol.categories import CATEGORIES, PURPOSES
from cbmdhi.protocol.consortium import Consortium
from cbmdhi.protocol.words import ACTIONS

_MOST_DAYS = 36_500
# The last year of a date, in Unix ms: whoever signed by other means may have written anything.
_FAR_MS = 253_402_300_799_000

app = typer.Typer(
    no_args_is_help=True, help="Who may see what, for what, until when. Signed by the patient in person."
)


@app.command()
def grant(
    to: Annotated[
        str,
        typer.Argument(
            help="An address or its beginning, a role, a member (MSP id or name), or MEMBER:role."
        ),
    ],
    purpose: Annotated[
        list[str] | None, typer.Option(help="Purpose of use; repeat. Default: TREAT; of a deny: all.")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="Data category; repeat. Default all.")] = None,
    record: Annotated[
        list[str] | None, typer.Option(help="Record id, or its beginning; repeat. Default all.")
    ] = None,
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
    """Permit (or deny) a person, a role or an organisation.

    Examples:

        cbmdhi consent grant LakesideMSP:clinician --days 30 -w anna

        cbmdhi consent grant cb1zcynahh4slrtorcscddpcmjprqj3enok --record 01a22d4c --purpose HRESCH -w anna

        cbmdhi consent grant LakesideMSP --category conditions --deny -w anna
    """
    shared.closed("--purpose", purpose or [], PURPOSES)
    shared.closed("--category", category or [], CATEGORIES)
    shared.closed("--action", action or [], ACTIONS)
    until_ms = _until_ms(days)

    async def work(client: Client) -> tuple[str, RecordReceipt]:
        line = provision(
            **_grantee(to, home, client.wallet.consortium),
            purposes=purpose,
            categories=category or [],
            record_ids=[
                await record_named(client, one, client.wallet.address, "PATRQT") for one in record or []
            ],
            actions=action or [],
            valid_until_ms=until_ms,
            deny=deny,
        )
        return await client.consents.grant(line)

    consent_id, receipt = shared.with_client(wallet, home, member, work)
    revoke_it = hints.Typist(home, wallet).command("consent", "revoke", consent_id)
    if as_json:
        print(json.dumps({"consent_id": consent_id, "receipt": shared.plain(receipt), "revoke": revoke_it}))
        return
    until = f"until {when(until_ms)} UTC" if until_ms else "until it is revoked"
    console.print(f"{shared.done('given', receipt.receipt.block)}; it holds {until}; to take it back:")
    console.print(f"  {revoke_it}", soft_wrap=True)


@app.command()
def revoke(
    consent_id: Annotated[str, typer.Argument(help="Consent id, or its beginning.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take a consent back: the next reading under it is refused, and its id is never given again.

    Examples:

        cbmdhi consent revoke 01a22d4c -w anna

        cbmdhi consent revoke 01a22d4c-e6d0-7195-af6f-7062e602180b -w anna --json
    """

    async def work(client: Client) -> RecordReceipt:
        whole = consent_id
        if not prefixes.is_whole(consent_id):
            given = (await client.consents.list()).consents
            whole = prefixes.resolved(consent_id, [one.consent_id for one in given], "consent in force")
        return await client.consents.revoke(whole)

    receipt = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps(shared.plain(receipt)))
    else:
        console.print(shared.done("revoked", receipt.receipt.block))


@app.command("list")
def list_consents(
    with_ended: Annotated[bool, typer.Option("--ended", help="Show those too that have ended.")] = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the consents in force: for whom, for what, until when.

    Examples:

        cbmdhi consent list -w anna

        cbmdhi consent list --ended -w anna --json
    """
    document = shared.with_client(wallet, home, member, lambda client: client.consents.list())
    now_ms = time.time() * 1000
    ended = sum(_has_ended(line, now_ms) for one in document.consents for line in one.provisions)
    if not with_ended:
        _forget_ended(document.consents, now_ms)
    if as_json:
        print(json.dumps(shared.plain(document)))
        return
    table = shared.table("consent", "effect", "for whom", "for what", "which data", "may", "until")
    for consent in document.consents:
        for line in consent.provisions:
            table.add_row(
                consent.consent_id,
                pb.Effect.Name(line.effect).removeprefix("EFFECT_").lower(),
                ", ".join(_who(grantee) for grantee in line.grantees) or "anyone",
                ", ".join(line.purposes) or "anything",
                ", ".join([*line.categories, *line.record_ids]) or "everything",
                ", ".join(line.actions) or _usual(line),
                _until(line, now_ms),
            )
    if document.consents:
        shared.show(table)
    else:
        console.print("no consent is in force: nobody but you may read")
    if ended and not with_ended:
        more = hints.Typist(home, wallet).command("consent", "list", "--ended")
        shared.say(f"{ended} more {'has' if ended == 1 else 'have'} ended: {more}")


def _has_ended(line: pb.Provision, now_ms: float) -> bool:
    return 0 < line.valid_until_ms <= now_ms


def _forget_ended(consents: MutableSequence[ActiveConsent], now_ms: float) -> None:
    """Take out the lines that have ended, and consents of which nothing is left."""
    for place in range(len(consents) - 1, -1, -1):
        lines = consents[place].provisions
        left = [line for line in lines if not _has_ended(line, now_ms)]
        if not left:
            del consents[place]
        elif len(left) < len(lines):
            del lines[:]
            lines.extend(left)


def _usual(line: pb.Provision) -> str:
    return "anything" if line.effect == pb.EFFECT_DENY else "read, search, history"


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


def _grantee(text: str, home: Path, known: Consortium) -> dict[str, Any]:
    if addresses.is_address(text) or prefixes.may_begin_address(text):
        return {"grantee": shared.check_address(text, home)}
    organisation, colon, role = text.partition(":")
    if colon:
        return {"msp": _msp(organisation, known), "role": role_named(role)}
    if text in ROLES:
        return {"role": role_named(text)}
    if text.endswith("MSP") or text in [one.name for one in known.members.values()]:
        return {"msp": _msp(text, known)}
    raise Misuse(
        f"{text!r} is no address, no member and no role; {mistyped.of(text, (*known.members, *ROLES))}"
    )


def _msp(typed: str, known: Consortium) -> str:
    """The MSP id of a member, by it or by its name."""
    try:
        return known.member_named(typed).msp_id
    except KeyError as error:
        raise Misuse(f"no member {typed!r}; {mistyped.of(typed, known.members)}") from error


def _who(grantee: pb.Grantee) -> str:
    return " ".join(part for part in (grantee.address, grantee.msp, name_of_role(grantee.role)) if part)
