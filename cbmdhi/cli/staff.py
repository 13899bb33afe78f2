"""What administrators do: invite, review."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cbmdhi.cli import shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.cli.wallet import role_named
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError

review = typer.Typer(
    no_args_is_help=True, help="Registrations that wait for this member's vote (administrators)."
)


def invite(
    address: Annotated[str, typer.Argument(help="Address of the wallet to invite.")],
    role: Annotated[
        str, typer.Option(help="clinician, engine, administrator, device, researcher, privacy-officer.")
    ],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Prepare the enrolment of staff or an engine; prints a secret to hand over (administrators)."""
    secret = shared.with_client(
        wallet, home, member, lambda client: client.registration.invite(address, role_named(role))
    )
    if as_json:
        print(json.dumps({"address": address, "secret": secret}))
    else:
        console.print(f"secret, shown once: {secret}\nthey run: CBMDHI_INVITATION=… cbmdhi wallet enrol")


@review.command("list")
def list_reviews(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List what waits, with the evidence that was sealed to this administrator."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [
            {
                "identity": shared.plain(entry.identity),
                "evidence": client.registration.open_evidence(entry) if entry.sealed_evidence else None,
            }
            for entry in await client.registration.pending()
        ]

    waiting = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps(waiting))
        return
    table = shared.table("address", "role", "home", "evidence")
    for entry in waiting:
        identity = entry["identity"]
        shown = json.dumps(entry["evidence"])[:120] if entry["evidence"] else ""
        table.add_row(
            identity["address"], identity["role"].removeprefix("ROLE_").lower(), identity["home_msp"], shown
        )
    console.print(table if waiting else "nothing waits for this member")


@review.command()
def approve(
    address: str,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Vote for a registration."""
    _vote(address, wallet, member, home, as_json, approve=True, reason_code="identity-verified")


@review.command()
def reject(
    address: str,
    reason: Annotated[str, typer.Option(help="document-mismatch, duplicate or other.")] = "other",
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Vote against a registration: one rejection ends it."""
    _vote(address, wallet, member, home, as_json, approve=False, reason_code=reason)


def _vote(
    address: str, wallet: str, member: str, home: Any, as_json: bool, *, approve: bool, reason_code: str
) -> None:
    async def work(client: Client) -> Any:
        for entry in await client.registration.pending():
            if entry.identity.address == address:
                return await client.registration.review(
                    entry.identity, approve=approve, reason_code=reason_code
                )
        raise MeshError(
            code_pb2.CODE_NOT_FOUND,
            "no registration of that address waits for this member: see `cbmdhi review list`",
        )

    response = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps(shared.plain(response)))
        return
    given = sum(vote.decision == pb.DECISION_APPROVE for vote in response.identity.reviews)
    console.print(f"[green]voted[/green] in block {response.receipt.block}; {given} members approved so far")
