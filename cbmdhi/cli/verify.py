"""`cbmdhi verify`."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated

import typer
from rich.markup import escape

from cbmdhi.cli import mistyped, prefixes, printable, shared
from cbmdhi.cli.exits import Status
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.errors import MeshError, Misuse
from cbmdhi.protocol import ids
from cbmdhi.verify import Verification, verify_receipt


def verify(
    ids: Annotated[
        list[str],
        typer.Argument(
            help="Transaction id and command id of the receipt, or the latter alone. Of what the audit trail "
            "or the inbox shows, the beginning will do."
        ),
    ],
    signer: Annotated[str, typer.Option(help="Address of the command's signer, when it is known.")] = "",
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt against the members' peers: endorsements, author, verdict, stored bytes.

    Ends with 1 when something does not stand.

    Examples:

        cbmdhi verify 01a22d4c-e6d0-7195-af6f-7062e602180b -w mercy-engine

        cbmdhi verify 01a22d4c -w anna --json
    """
    if len(ids) > 2:
        raise Misuse("give the transaction id and the command id of one receipt, or the command id", "ids")
    if signer:
        signer = shared.check_address(signer, home)
    tx_typed, command_typed = (None, *ids)[-2:]

    async def work(client: Client) -> Verification:
        tx_id, command_id = await _whole_ids(client, tx_typed, str(command_typed))
        return await verify_receipt(client, tx_id, command_id, signer)

    verification = shared.with_client(wallet, home, member, work)
    if as_json:
        checks = [
            {"name": check.name, "ok": check.ok, "detail": check.detail} for check in verification.checks
        ]
        print(json.dumps({"ok": verification.ok, "checks": checks, "unchecked": verification.unchecked}))
    else:
        show_checks(verification)
    if not verification.ok:
        raise typer.Exit(Status.FAILED)


async def _whole_ids(client: Client, tx_id: str | None, command_id: str) -> tuple[str | None, str]:
    """The ids of a receipt from their beginnings, by what concerns the wallet. Raises Misuse."""
    if ids.is_command_id(command_id) and (tx_id is None or prefixes.is_whole(tx_id)):
        return tx_id, command_id
    known = {(entry.tx_id, entry.command_id) for entry in await client.inbox.list()}
    try:
        known |= {(one.entry.tx_id, one.entry.command_id) for one in await client.trail.audit()}
    except MeshError as error:
        # Only patients have an audit trail.
        if error.code_name != "FORBIDDEN":
            raise
    if tx_id is not None and not prefixes.is_whole(tx_id):
        tx_id = prefixes.resolved(tx_id, [tx for tx, _ in known], "transaction in the trail or the inbox")
    if tx_id is None and (found := _of_transaction(command_id, known)):
        return found
    if not ids.is_command_id(command_id):
        of_tx = [command for tx, command in known if tx_id in (None, tx)]
        command_id = prefixes.resolved(command_id, of_tx, "command in the trail or the inbox")
    return tx_id, command_id


def _of_transaction(typed: str, known: Collection[tuple[str, str]]) -> tuple[str, str] | None:
    """People copy the transaction's id alone as well: most hold one command that concerns them."""
    begun = typed.rstrip("…")
    meant = [pair for pair in known if pair[0].startswith(begun)]
    if not meant or any(command.startswith(begun) for _, command in known):
        return None
    if len(meant) > 1:
        commands = mistyped.some(command for _, command in meant)
        raise Misuse(
            f"transactions that begin with {typed!r} hold several commands: name one: {commands}", "ids"
        )
    return meant[0]


def show_checks(verification: Verification) -> None:
    """Each check on a line."""
    for check in verification.checks:
        mark = "[green]✓[/green]" if check.ok else "[red]✗[/red]"
        console.print(f"  {mark} {check.name:<13} {escape(printable.line(check.detail))}", soft_wrap=True)
    for what in verification.unchecked:
        console.print(f"  · {'not compared':<13} {escape(printable.line(what))}", soft_wrap=True)
