"""`cbmdhi resend`: exactly what was signed, when nobody could tell what had become of it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cbmdhi.cli import shared, unsure
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import NotCommitted
from cbmdhi.ledger.v1.ledger_pb2 import Receipt


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

    file, request = unsure.kept_in(shared.wallet_folder(wallet, home), what)

    async def work(client: Client) -> list[Receipt]:
        try:
            receipts = await unsure.send(client, request)
        except NotCommitted as error:
            # Refused for good, which is proven as well; that nothing was done is the gateway's word alone.
            if error.outcome == code_pb2.OUTCOME_COMMITTED:
                file.unlink()
            raise
        file.unlink()
        return receipts

    receipts = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps([shared.plain(receipt) for receipt in receipts]))
        return
    for receipt in receipts:
        console.print(f"{receipt.command_id} {shared.done('done', receipt.block)}")
