"""What `cbmdhi review` does about who is registered: a broken glass is judged, an identity stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from cbmdhi.cli import prefixes, shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol.broken_glass import BrokenGlass
from cbmdhi.protocol.words import SUSPENSIONS

_GLASS = ("break-glass", "review.wanted", "emergency.opened", "emergency.recorded")


def glass(
    break_glass_id: Annotated[str, typer.Argument(help="`command` in `cbmdhi inbox`, or its beginning.")],
    clinician: Annotated[
        str, typer.Argument(help="Address of who broke the glass, or its beginning: `who` there.")
    ],
    justified: Annotated[bool, typer.Option("--justified/--not-justified", help="What came out.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what was found about a break-glass (privacy officers and administrators).

    It is closed when the clinician's member and another one have spoken.

    Examples:

        cbmdhi review glass 01a22d4c cb1zcyna --justified -w mercy-privacy

        cbmdhi review glass 01a22d4c cb1zcyna --not-justified -w mercy-privacy --json
    """

    async def work(client: Client) -> Receipt:
        glass_id, who = await _broken_glass(client, break_glass_id, clinician)
        return await client.registration.review_break_glass(glass_id, who, justified=justified)

    receipt = shared.with_client(wallet, home, member, work)
    shared.show_receipt(receipt, "reviewed", as_json=as_json)


def reason(
    break_glass_id: Annotated[str, typer.Argument(help="`command` in `cbmdhi inbox`, or its beginning.")],
    clinician: Annotated[
        str, typer.Argument(help="Address of who broke the glass, or its beginning: `who` there.")
    ],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Why a glass was broken, as the clinician sealed it to this reviewer.

    Examples:

        cbmdhi review reason 01a22d4c cb1zcyna -w mercy-privacy

        cbmdhi review reason 01a22d4c cb1zcyna -w mercy-privacy --json
    """

    async def work(client: Client) -> BrokenGlass:
        return await client.registration.broken_glass(*await _broken_glass(client, break_glass_id, clinician))

    broken = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps(asdict(broken)))
    else:
        console.print(
            f"{broken.reason}: record {broken.record_id}, version {broken.version}, of {broken.patient}"
        )


def suspend(
    address: Annotated[
        str, typer.Argument(help="Address of whom to stop; of a wallet under HOME its beginning will do.")
    ],
    reason: Annotated[str, typer.Argument(help="lost-key, left, misuse or other.")],
    void_consents_since: Annotated[
        datetime | None,
        typer.Option(help="With a patient's lost-key: end the consents given since then (local time)."),
    ] = None,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Stop an identity of this member: nobody lets it do anything from then on.

    A patient can still revoke consents, unless the key was lost.

    Examples:

        cbmdhi review suspend cb1zcynahh4slrtorcscddpcmjprqj3enok left -w mercy-administrator

        cbmdhi review suspend cb1zcyna lost-key --void-consents-since 2026-11-01 -w mercy-administrator
    """
    shared.closed("reason", [reason], SUSPENSIONS)
    address = shared.check_address(address, home)
    since_ms = int(void_consents_since.astimezone().timestamp() * 1000) if void_consents_since else 0
    receipt = shared.with_client(
        wallet, home, member, lambda client: client.registration.suspend(address, reason, since_ms)
    )
    shared.show_receipt(receipt, "suspended", as_json=as_json)


def reinstate(
    address: Annotated[
        str,
        typer.Argument(help="Address of who may act again; of a wallet under HOME its beginning will do."),
    ],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Let a suspended identity act again; after a lost key, or when its owner stopped it, two members do.

    Examples:

        cbmdhi review reinstate cb1zcynahh4slrtorcscddpcmjprqj3enok -w mercy-administrator

        cbmdhi review reinstate cb1zcynahh4slrtorcscddpcmjprqj3enok -w mercy-administrator --json
    """
    address = shared.check_address(address, home)
    receipt = shared.with_client(wallet, home, member, lambda client: client.registration.reinstate(address))
    shared.show_receipt(receipt, "reinstated", as_json=as_json)


async def _broken_glass(client: Client, glass_id: str, clinician: str) -> tuple[str, str]:
    """The command that broke a glass and who did it, from what the inbox shows of them. Raises Misuse."""
    if prefixes.is_whole(glass_id) and addresses.is_address(clinician):
        return glass_id, clinician
    told = [entry for entry in await client.inbox.list() if entry.kind in _GLASS]
    whole = prefixes.resolved(glass_id, [entry.command_id for entry in told], "broken glass in the inbox")
    actors = [entry.actor for entry in told if entry.command_id == whole]
    return whole, prefixes.resolved(clinician, actors, "who broke it")
