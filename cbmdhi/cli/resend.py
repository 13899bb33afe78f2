"""`cbmdhi resend`: exactly what was signed, when nobody could tell what had become of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from cbmdhi.cli import hints, printable, shared, unsure
from cbmdhi.cli.exits import Status
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.client.outbox import Kept, Outbox, commands_of
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, Misuse, NotCommitted
from cbmdhi.protocol import command

_AT_ONCE = 8
# Nobody is there: the others would wait as long, each for itself.
_AWAY = (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_DEADLINE_EXCEEDED)


def resend(
    what: Annotated[
        str,
        typer.Argument(
            help="Command id that the error named, or its beginning; or a file. None: what waits is listed."
        ),
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Send again all that waits.")] = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send again what was signed and whose outcome was not known; it is done at most once.

    What was kept goes when the members' peers prove what became of it. Without an argument what waits is
    listed, and nothing is sent. With --all there is a line for each; it ends with 3 when one is still not
    known, else with 1 when one was refused.

    Examples:

        cbmdhi resend -w mercy-engine

        cbmdhi resend 01a22d4c -w mercy-engine -m lakeside --json

        cbmdhi resend --all -w mercy-engine
    """
    typist, outbox = hints.Typist(home, wallet, member), Outbox(shared.wallet_folder(wallet, home))
    if everything and what:
        raise Misuse("either --all or one of them, not both")
    if everything:
        _all(outbox.list(), typist, as_json=as_json)
    elif what:
        _one(outbox.find(what), typist, as_json=as_json)
    else:
        _show(outbox.list(), typist, as_json=as_json)


def _one(kept: Kept, typist: hints.Typist, *, as_json: bool) -> None:
    receipts = shared.with_client(
        typist.wallet, typist.home, typist.member, lambda client: client.resend(kept)
    )
    if as_json:
        print(json.dumps([shared.plain(receipt) for receipt in receipts]))
        return
    for receipt in receipts:
        console.print(f"{receipt.command_id} {shared.done('done', receipt.block)}")


def _show(there: Sequence[Kept], typist: hints.Typist, *, as_json: bool) -> None:
    waiting = [_Waiting.of(kept) for kept in there]
    if as_json:
        print(json.dumps([one.document for one in waiting]))
        return
    if not waiting:
        console.print("nothing waits to be sent again")
        return
    table = shared.table("command", "signed", "what")
    for one in waiting:
        table.add_row(one.command_id, one.signed_at, one.what)
    shared.show(table)
    shared.say(f"to send all of it again: {typist.command('resend', '--all')}")


@dataclass(frozen=True)
class _Waiting:
    """One of those that wait. `signed`: what it asks for, by its ids."""

    command_id: str
    signed_at: str
    signed: Sequence[unsure.Signed]

    @classmethod
    def of(cls, kept: Kept) -> _Waiting:
        signed = commands_of(kept.request)
        at = datetime.fromtimestamp(command.parse(signed[0])[0].issued_at_ms / 1000, UTC)
        return cls(kept.command_id, f"{at:%Y-%m-%d %H:%M:%S}Z", [unsure.named(one) for one in signed])

    @property
    def what(self) -> str:
        first = self.signed[0]
        ids = {name: value for name, value in first.ids.items() if name != "command_id"}
        more = f", and {len(self.signed) - 1} more together" if len(self.signed) > 1 else ""
        return ", ".join([first.name, *(f"{name} {value}" for name, value in ids.items())]) + more

    @property
    def document(self) -> dict[str, Any]:
        return {
            "command_id": self.command_id,
            "signed_at": self.signed_at,
            "signed": [one.document for one in self.signed],
        }


@dataclass
class _Sent:
    """What became of one. `code`: OK, or why not."""

    command_id: str
    verdict: str
    code: str
    reason: str = ""
    receipts: list[dict[str, Any]] = field(default_factory=list)


def _all(there: Sequence[Kept], typist: hints.Typist, *, as_json: bool) -> None:
    if not there:
        print(json.dumps([])) if as_json else console.print("nothing waits to be sent again")
        return
    sent: list[_Sent] = []

    async def work(client: Client) -> None:
        places, away = asyncio.Semaphore(_AT_ONCE), asyncio.Event()

        async def one(kept: Kept) -> None:
            async with places:
                if away.is_set():
                    return
                told = await _sent(client, kept, away)
            sent.append(told)
            if not as_json:
                console.print(_line(told), soft_wrap=True)

        async def in_order(lane: Sequence[Kept]) -> None:
            for kept in lane:
                await one(kept)

        lanes: dict[str, list[Kept]] = {}
        for kept in there:
            lanes.setdefault(_lane(kept), []).append(kept)
        await asyncio.gather(*(in_order(lane) for lane in lanes.values()))

    shared.with_client(typist.wallet, typist.home, typist.member, work)
    if as_json:
        print(json.dumps([vars(one) for one in sent]))
    if len(sent) < len(there):
        shared.say(f"nobody answers: {shared.counted(len(there) - len(sent), 'other')} not sent, and kept")
    if len(sent) < len(there) or any(one.verdict == "open" for one in sent):
        raise typer.Exit(Status.UNKNOWN)
    if any(one.verdict == "refused" for one in sent):
        raise typer.Exit(Status.FAILED)


def _lane(kept: Kept) -> str:
    """Whom it is about: what was signed later may follow what was signed before, as a version does."""
    return str(getattr(command.body_of(commands_of(kept.request)[0])[1], "patient", ""))


async def _sent(client: Client, kept: Kept, away: asyncio.Event) -> _Sent:
    try:
        receipts = await client.resend(kept)
    except NotCommitted as refused:
        return _Sent(kept.command_id, "refused", refused.code_name, refused.reason)
    except MeshError as error:
        if error.code in _AWAY:
            away.set()
        # That nothing was done this time says nothing of the time before.
        return _Sent(kept.command_id, "open", error.code_name, error.reason)
    return _Sent(kept.command_id, "done", "OK", receipts=[shared.plain(one) for one in receipts])


def _line(told: _Sent) -> str:
    if told.verdict == "done":
        return f"{told.command_id} {shared.done('done', int(told.receipts[0]['block']))}"
    what = "[red]refused[/red]" if told.verdict == "refused" else "still not known, and kept"
    return f"{told.command_id} {what}: {told.code} {escape(printable.line(told.reason))}"
