"""`cbmdhi invite`, and `cbmdhi review` of registrations: list, show, approve, reject, withdraw."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from cbmdhi.cli import hints, mistyped, passphrases, prefixes, shared
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.listing import when
from cbmdhi.cli.roles import name_of_role, role_named
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError, Misuse
from cbmdhi.identity.v1.identity_pb2 import ReviewResponse
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol.words import REJECTIONS


def invite(
    address: Annotated[
        str, typer.Argument(help="Address of the wallet to invite; of one under HOME its beginning will do.")
    ],
    role: Annotated[
        str, typer.Option(help="clinician, engine, administrator, device, researcher, privacy-officer.")
    ],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Prepare the enrolment of staff or an engine (administrators). Prints a secret to hand over.

    Examples:

        cbmdhi invite cb1zcynahh4slrtorcscddpcmjprqj3enok --role clinician -w mercy-administrator

        cbmdhi invite cb1zcynahh4slrtorcscddpcmjprqj3enok --role engine -w mercy-administrator --json
    """
    address, chosen = shared.check_address(address, home), role_named(role)
    secret = shared.with_client(
        wallet, home, member, lambda client: client.registration.invite(address, chosen)
    )
    if as_json:
        print(json.dumps({"address": address, "secret": secret}))
    else:
        for line in hints.enrolment(home, address, secret):
            console.print(line, soft_wrap=True, markup=False)


def list_reviews(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List what waits for this member's vote, oldest first.

    Examples:

        cbmdhi review list -w mercy-administrator

        cbmdhi review list -w mercy-administrator --json
    """
    waiting = shared.with_client(wallet, home, member, _pending)
    if as_json:
        print(json.dumps([{"identity": shared.plain(identity)} for identity in waiting]))
        return
    _show_waiting(waiting, hints.Typist(home, wallet))


def _show_waiting(waiting: list[IdentityDocument], typist: hints.Typist) -> None:
    """What waits, and how it is looked at; or that nothing does."""
    if not waiting:
        console.print("nothing waits for this member's vote")
        return
    table = shared.table("address", "role", "home", "since", "voted")
    for identity in waiting:
        table.add_row(
            identity.address,
            name_of_role(identity.role),
            identity.home_msp,
            f"{when(identity.registered_at_ms)} UTC",
            ", ".join(vote.msp for vote in identity.reviews),
        )
    shared.show(table)
    shared.say(f"to look at the first and vote: {typist.command('review', 'approve', waiting[0].address)}")


def show(
    address: Annotated[str, typer.Argument(help="Address of who waits, or its beginning.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Open the evidence of a registration, as it was sealed to this administrator by the patient.

    Examples:

        cbmdhi review show cb1zcyna -w mercy-administrator

        cbmdhi review show cb1zcyna -w mercy-administrator --json
    """

    async def work(client: Client) -> tuple[IdentityDocument, dict[str, Any]]:
        identity = await _waiting(client, address)
        if identity.role != pb.ROLE_PATIENT:
            raise Misuse(f"{_no_evidence(identity)}: there is no evidence to open")
        return identity, await client.registration.evidence(identity)

    identity, evidence = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps({"identity": shared.plain(identity), "evidence": evidence}))
    else:
        print(json.dumps(evidence, indent=2, ensure_ascii=False))


def approve(
    address: Annotated[
        str, typer.Argument(help="Address of who waits, or its beginning; without one it is said who waits.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask at a terminal.")] = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Vote for a registration, after what there is to look at was shown.

    A patient's evidence is opened, and the vote says which it was. At a terminal it is asked before the vote.

    Examples:

        cbmdhi review approve -w mercy-administrator

        cbmdhi review approve cb1zcyna -w mercy-administrator

        cbmdhi review approve cb1zcyna --yes -w mercy-administrator --json
    """
    if not address:
        waiting = shared.with_client(wallet, home, member, _pending)
        if as_json:
            raise Misuse("whom? give the address of one who waits", "address")
        _show_waiting(waiting, hints.Typist(home, wallet))
        return
    ask = not yes and not as_json and passphrases.at_terminal()
    looked: list[dict[str, Any]] = []

    async def work(client: Client) -> ReviewResponse:
        identity = await _waiting(client, address)
        if identity.role == pb.ROLE_PATIENT:
            looked.append(await client.registration.evidence(identity))
        if not as_json:
            _show_registration(identity, looked)
        # On a thread of its own: a person takes longer to read than the connection may be deaf.
        if ask and not await asyncio.to_thread(typer.confirm, f"approve {identity.address}?", err=True):
            raise Failure("INTERRUPTED", "nothing was voted", status=Status.INTERRUPTED)
        return await client.registration.review(identity, approve=True, reason_code="identity-verified")

    response = shared.with_client(wallet, home, member, work)
    _show_vote(response, as_json)


def _show_registration(identity: IdentityDocument, evidence: list[dict[str, Any]]) -> None:
    """What there is to look at before a vote."""
    votes = ", ".join(vote.msp for vote in identity.reviews) or "nobody yet"
    shared.say(
        f"{name_of_role(identity.role)} {identity.address} of {identity.home_msp}, "
        f"registered {when(identity.registered_at_ms)} UTC; voted: {votes}"
    )
    if not evidence:
        shared.say(f"{_no_evidence(identity)}: there is nothing else to look at")
    for one in evidence:
        shared.say("the evidence, as the patient sealed it to you:")
        print(json.dumps(one, indent=2, ensure_ascii=False))


def _no_evidence(identity: IdentityDocument) -> str:
    return f"the CA of {identity.home_msp} certifies this {name_of_role(identity.role)}"


def reject(
    address: Annotated[str, typer.Argument(help="Address of who waits, or its beginning.")],
    reason: Annotated[str, typer.Option(help="document-mismatch, duplicate or other.")] = "other",
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Vote against a registration: the home member's ends it, or so many that the quorum is out of reach.

    Examples:

        cbmdhi review reject cb1zcyna -w mercy-administrator

        cbmdhi review reject cb1zcyna --reason document-mismatch -w mercy-administrator
    """

    shared.closed("--reason", [reason], REJECTIONS)

    async def work(client: Client) -> ReviewResponse:
        identity = await _waiting(client, address)
        return await client.registration.review(identity, approve=False, reason_code=reason)

    _show_vote(shared.with_client(wallet, home, member, work), as_json)


def withdraw(
    address: Annotated[str, typer.Argument(help="Address of who waits, or its beginning.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take this member's vote on a registration back, while it waits for others.

    Examples:

        cbmdhi review withdraw cb1zcynahh4slrtorcscddpcmjprqj3enok -w mercy-administrator

        cbmdhi review withdraw cb1zcyna -w mercy-administrator --json
    """

    async def work(client: Client) -> ReviewResponse:
        whole = await _pending_address(client, address)
        return await client.registration.withdraw(await client.registration.identity(whole))

    response = shared.with_client(wallet, home, member, work)
    shared.show_receipt(response.receipt, "taken back", as_json=as_json)


def _show_vote(response: ReviewResponse, as_json: bool) -> None:
    if as_json:
        print(json.dumps(shared.plain(response)))
        return
    given = sum(vote.decision == pb.DECISION_APPROVE for vote in response.identity.reviews)
    status = state_pb2.IdentityStatus.Name(response.identity.status).removeprefix("IDENTITY_STATUS_").lower()
    console.print(shared.done("voted", response.receipt.block))
    console.print(f"as the gateway says: approved by {shared.counted(given, 'member')}, now {status}")


async def _pending(client: Client) -> list[IdentityDocument]:
    return [entry.identity for entry in await client.registration.pending()]


async def _pending_address(client: Client, typed: str) -> str:
    """A whole address, or the beginning of one that waits. Raises Misuse."""
    if addresses.is_address(typed):
        return typed
    waiting = [identity.address for identity in await _pending(client)]
    if not waiting:
        raise Misuse("nothing waits for this member's vote")
    return prefixes.resolved(typed, waiting, "registration that waits")


async def _waiting(client: Client, typed: str) -> IdentityDocument:
    """The registration under that address. Raises MeshError NOT_FOUND when none waits."""
    address = await _pending_address(client, typed)
    try:
        identity = await client.registration.identity(address)
        status = state_pb2.IdentityStatus.Name(identity.status).removeprefix("IDENTITY_STATUS_").lower()
    except MeshError as error:
        if error.code != code_pb2.CODE_NOT_FOUND:
            raise
        identity, status = IdentityDocument(), "not known"
    if identity.status != state_pb2.IDENTITY_STATUS_PENDING:
        others = mistyped.some(one.address for one in await _pending(client)) or "nobody"
        raise MeshError(
            code_pb2.CODE_NOT_FOUND,
            f"no registration of {address} waits: it is {status}; for this member's vote waits: {others}",
        )
    return identity
