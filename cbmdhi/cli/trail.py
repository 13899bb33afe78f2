"""`cbmdhi audit`, `inbox`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from cbmdhi.cli import listing, prefixes, printable, shared
from cbmdhi.cli.listing import EachOption, Page, PageOption, RecordOption, RowsOption, WhoOption
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.errors import name_of
from cbmdhi.ledger.v1.ledger_pb2 import CommittedAuditEntry
from cbmdhi.notify.v1.notify_pb2 import Notification


def audit(
    action: Annotated[str, typer.Option(help="Only this action, such as read.")] = "",
    record: RecordOption = "",
    who: WhoOption = "",
    page: PageOption = 1,
    rows: RowsOption = listing.ROWS,
    each: EachOption = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Everything done or refused about the wallet's own data: who, when, why, under which consent.

    Newest first, a page at a time; neighbours that are alike are one row. With --json it is all of it, oldest
    first. Ids are shown by their beginnings: so they can be typed, wherever an id is asked for.

    Examples:

        cbmdhi audit -w anna

        cbmdhi audit --action read --record 01a22d4c --each --page 2 -w anna

        cbmdhi audit -w anna --json
    """
    entries = [
        entry
        for entry in shared.with_client(wallet, home, member, lambda client: client.trail.audit())
        if action in ("", entry.entry.action)
        and entry.entry.record_id.startswith(record.rstrip("…"))
        and _actor(entry).startswith(who.rstrip("…"))
    ]
    if as_json:
        print(json.dumps([shared.plain(entry) for entry in entries]))
        return
    if not entries:
        what = "nothing of that kind" if action or record or who else "nothing"
        console.print(f"{what} was done or refused about this wallet's data")
        return
    shown = listing.page(entries[::-1], None if each else _alike_entries, page, rows)
    shared.show(audit_table(entries, shown))
    _say_more(shown)


def audit_table(entries: Sequence[CommittedAuditEntry], shown: Page[CommittedAuditEntry]) -> Table:
    """A page of the audit trail as a table; ids are short as all of the trail allows."""
    table = shared.table(
        "when (UTC)", "times", "who", "from", "what", "record", "why", "verdict", "consent", "command"
    )
    who = prefixes.shortening(_actor(entry) for entry in entries)
    short = prefixes.shortening(
        one for entry in entries for one in (entry.entry.record_id, _consent(entry), entry.entry.command_id)
    )
    for group in shown.groups:
        entry = group[0].entry
        table.add_row(
            listing.whens([one.entry.at_ms for one in group]),
            str(len(group)),
            who(_actor(group[0])),
            entry.signer_msp.removesuffix("MSP"),
            entry.action,
            listing.together([one.entry.record_id for one in group], "record", short),
            entry.purpose or entry.reason_code,
            name_of(entry.code),
            short(_consent(group[0])),
            listing.together([one.entry.command_id for one in group], "command", short),
        )
    return table


def _actor(committed: CommittedAuditEntry) -> str:
    return committed.entry.on_behalf_of or committed.entry.signer


def _consent(committed: CommittedAuditEntry) -> str:
    return committed.entry.basis.consent_id or committed.entry.consent_id


def _alike_entries(committed: CommittedAuditEntry) -> tuple[str | int, ...]:
    entry = committed.entry
    why = entry.purpose or entry.reason_code
    return _actor(committed), entry.signer_msp, entry.action, why, entry.code, _consent(committed)


def inbox(
    new: Annotated[bool, typer.Option("--new", help="Only what was not acknowledged.")] = False,
    acknowledge: Annotated[bool, typer.Option("--ack", help="Mark what is shown as seen.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on showing what comes, until Ctrl-C.")
    ] = False,
    record: RecordOption = "",
    who: WhoOption = "",
    page: PageOption = 1,
    rows: RowsOption = listing.ROWS,
    each: EachOption = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """What happened, newest first.

    A page at a time; neighbours that are alike are one row. With --json it is all of it.

    Examples:

        cbmdhi inbox -w anna

        cbmdhi inbox --new --ack --each -w anna

        cbmdhi inbox --follow -w anna --json
    """

    def elsewhere(client: Client) -> None:
        own = client.wallet.consortium.member_named(client.wallet.member)
        if client.member is not own:
            kept = f"an inbox is kept at the home member, which is {own.name}: leave out -m"
            shared.say(f"{kept}; {client.member.name} has none of this wallet")

    def wanted(entry: Notification) -> bool:
        return entry.record_id.startswith(record.rstrip("…")) and entry.actor.startswith(who.rstrip("…"))

    def shown_of(found: Sequence[Notification]) -> Page[Notification]:
        return listing.page(found, None if each else _alike_notifications, page, rows)

    async def work(client: Client) -> list[Notification]:
        elsewhere(client)
        found = [entry for entry in await client.inbox.list(unacknowledged_only=new) if wanted(entry)]
        seen = found if as_json else shown_of(found).entries
        if acknowledge and seen:
            await client.inbox.acknowledge([entry.notification_id for entry in seen])
        return found

    async def following(client: Client) -> None:
        elsewhere(client)
        async for entry in client.inbox.stream():
            if not wanted(entry):
                continue
            if as_json:
                print(json.dumps(shared.plain(entry)), flush=True)
            else:
                about = f"record {entry.record_id}" if entry.record_id else f"command {entry.command_id}"
                line = f"{listing.when(entry.at_ms)}  {entry.kind}  {entry.actor_msp} {entry.actor}  {about}"
                console.print(printable.line(line), soft_wrap=True, markup=False)

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
    if not found:
        console.print("nothing yet" if not (new or record or who) else "nothing of that kind")
        return
    shown = shown_of(found)
    shared.show(_inbox_table(found, shown))
    _say_more(shown)


def _inbox_table(found: Sequence[Notification], shown: Page[Notification]) -> Table:
    table = shared.table(
        "", "when (UTC)", "times", "what", "from", "who", "record", "why", "verdict", "command"
    )
    who = prefixes.shortening(entry.actor for entry in found)
    short = prefixes.shortening(one for entry in found for one in (entry.record_id, entry.command_id))
    for group in shown.groups:
        entry = group[0]
        table.add_row(
            "" if all(one.acknowledged for one in group) else "●",
            listing.whens([one.at_ms for one in group]),
            str(len(group)),
            entry.kind,
            entry.actor_msp.removesuffix("MSP"),
            who(entry.actor),
            listing.together([one.record_id for one in group], "record", short),
            entry.purpose,
            name_of(entry.code),
            listing.together([one.command_id for one in group], "command", short),
        )
    return table


def _alike_notifications(entry: Notification) -> tuple[str | int | bool, ...]:
    return entry.kind, entry.actor, entry.actor_msp, entry.purpose, entry.code, entry.acknowledged


def _say_more(shown: Page[Any]) -> None:
    if more := shown.more():
        shared.say(more)
