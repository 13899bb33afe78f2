"""`cbmdhi resend`: exactly what was signed, when nobody could tell what had become of it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cbmdhi.cli import shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client.outbox import Outbox


def resend(
    what: Annotated[
        str, typer.Argument(help="Command id that the error named, or its beginning; or a file.")
    ],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send again what was signed and whose outcome was not known; it is done at most once.

    What was kept goes when the members' peers prove what became of it.

    Examples:

        cbmdhi resend 01a22d4c -w mercy-engine

        cbmdhi resend 01a22d4c -w mercy-engine -m lakeside --json
    """

    kept = Outbox(shared.wallet_folder(wallet, home)).find(what)
    receipts = shared.with_client(wallet, home, member, lambda client: client.resend(kept))
    if as_json:
        print(json.dumps([shared.plain(receipt) for receipt in receipts]))
        return
    for receipt in receipts:
        console.print(f"{receipt.command_id} {shared.done('done', receipt.block)}")
