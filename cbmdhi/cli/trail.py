"""`cbmdhi audit`, `inbox`, `verify`."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from cbmdhi.cli import shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.errors import name_of
from cbmdhi.ledger.v1.ledger_pb2 import CommittedAuditEntry
from cbmdhi.verify import Verification, verify_receipt


def audit(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    action: Annotated[str, typer.Option(help="Only this action, such as read.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Everything done or refused about the wallet's own data: who, when, why, under which consent."""
    entries = shared.with_client(wallet, home, member, lambda client: client.trail.audit())
    entries = [entry for entry in entries if action in ("", entry.entry.action)]
    if as_json:
        print(json.dumps([shared.plain(entry) for entry in entries]))
    else:
        console.print(
            audit_table(entries) if entries else "nothing was done or refused about this wallet's data"
        )


def audit_table(entries: list[CommittedAuditEntry]) -> Table:
    """The audit trail as a table."""
    table = shared.table("when (UTC)", "who", "from", "what", "record", "why", "verdict", "consent", "block")
    for committed in entries:
        entry = committed.entry
        table.add_row(
            when(entry.at_ms),
            shared.short(entry.on_behalf_of or entry.signer),
            entry.signer_msp.removesuffix("MSP"),
            entry.action,
            shared.short(entry.record_id),
            entry.purpose or entry.reason_code,
            name_of(entry.code),
            shared.short(entry.basis.consent_id or entry.consent_id),
            str(committed.block),
        )
    return table


def inbox(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    new: Annotated[bool, typer.Option("--new", help="Only what was not acknowledged.")] = False,
    acknowledge: Annotated[bool, typer.Option("--ack", help="Mark what is shown as seen.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on showing what comes, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What happened, newest first."""

    def elsewhere(client: Client) -> None:
        own = client.wallet.consortium.member_named(client.wallet.member)
        if client.member is not own:
            kept = f"an inbox is kept at the home member, which is {own.name}: leave out -m"
            shared.errors.print(f"{kept}; {client.member.name} has none of this wallet")

    async def work(client: Client) -> list[Any]:
        elsewhere(client)
        found = await client.inbox.list(unacknowledged_only=new)
        if acknowledge and found:
            await client.inbox.acknowledge([entry.notification_id for entry in found])
        return found

    async def following(client: Client) -> None:
        elsewhere(client)
        async for entry in client.inbox.stream():
            if as_json:
                print(json.dumps(shared.plain(entry)))
            else:
                console.print(
                    f"{when(entry.at_ms)}  {entry.kind}  {entry.actor_msp}  {shared.short(entry.actor)}"
                )

    if follow:
        try:
            shared.with_client(wallet, home, member, following)
        except (KeyboardInterrupt, asyncio.CancelledError):
            return
        return
    found = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps([shared.plain(entry) for entry in found]))
        return
    table = shared.table("", "when (UTC)", "what", "who", "record", "why", "verdict")
    for entry in found:
        table.add_row(
            "" if entry.acknowledged else "●",
            when(entry.at_ms),
            entry.kind,
            f"{entry.actor_msp.removesuffix('MSP')} {shared.short(entry.actor)}",
            shared.short(entry.record_id),
            entry.purpose,
            name_of(entry.code),
        )
    console.print(table if found else "nothing yet")


def verify(
    ids: Annotated[
        list[str], typer.Argument(help="Transaction id and command id of the receipt, or the latter alone.")
    ],
    signer: Annotated[str, typer.Option(help="Address of the command's signer, when it is known.")] = "",
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt against the members' peers: endorsements, author's signature, verdict, stored bytes."""
    if len(ids) > 2:
        shared.errors.print("give the transaction id and the command id of one receipt, or the command id")
        raise typer.Exit(2)
    tx_id, command_id = (None, *ids)[-2:]
    verification = shared.with_client(
        wallet, home, member, lambda client: verify_receipt(client, tx_id, str(command_id), signer)
    )
    if as_json:
        checks = [
            {"name": check.name, "ok": check.ok, "detail": check.detail} for check in verification.checks
        ]
        print(json.dumps({"ok": verification.ok, "checks": checks}))
    else:
        show_checks(verification)
    if not verification.ok:
        raise typer.Exit(1)


def show_checks(verification: Verification) -> None:
    """Each check on a line."""
    for check in verification.checks:
        mark = "[green]✓[/green]" if check.ok else "[red]✗[/red]"
        console.print(f"  {mark} {check.name:<13} {check.detail}", soft_wrap=True)


def when(at_ms: int) -> str:
    """A time in Unix ms as text, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
