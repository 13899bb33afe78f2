"""What administrators do: invite, review, suspend; and privacy officers, who review a broken glass."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cbmdhi.cli import hints, shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.cli.wallet import role_named
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.ledger.v1.ledger_pb2 import Receipt

review = typer.Typer(
    no_args_is_help=True,
    help="Registrations that wait for a vote, broken glass, and whom to stop (administrators).",
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
        enrol = hints.Typist(home, "THEIRS").command("wallet", "enrol")
        console.print(f"secret, shown once: {secret}\nthey run: CBMDHI_INVITATION=… {enrol}", soft_wrap=True)


@review.command("list")
def list_reviews(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List what waits for this member's vote, oldest first; `cbmdhi review show` opens one's evidence."""

    async def work(client: Client) -> list[IdentityDocument]:
        return [entry.identity for entry in await client.registration.pending()]

    waiting = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps([{"identity": shared.plain(identity)} for identity in waiting]))
        return
    table = shared.table("address", "role", "home", "since", "voted")
    for identity in waiting:
        table.add_row(
            identity.address,
            pb.Role.Name(identity.role).removeprefix("ROLE_").lower(),
            identity.home_msp,
            f"{datetime.fromtimestamp(identity.registered_at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC",
            ", ".join(vote.msp for vote in identity.reviews),
        )
    console.print(table if waiting else "nothing waits for this member")


@review.command()
def show(
    address: str,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Open the evidence of a registration, as it was sealed to this administrator by the patient."""

    async def work(client: Client) -> tuple[IdentityDocument, dict[str, Any]]:
        identity = await _waiting(client, address)
        return identity, await client.registration.evidence(identity)

    identity, evidence = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps({"identity": shared.plain(identity), "evidence": evidence}))
    else:
        print(json.dumps(evidence, indent=2, ensure_ascii=False))


@review.command()
def approve(
    address: str,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Vote for a registration; a patient's evidence is opened first, and shown with the vote."""
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
    """Vote against a registration: the home member's ends it, or so many that the quorum is out of reach."""
    _vote(address, wallet, member, home, as_json, approve=False, reason_code=reason)


@review.command()
def withdraw(
    address: str,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take this member's vote on a registration back, while it waits for others."""

    async def work(client: Client) -> Any:
        return await client.registration.withdraw(await client.registration.identity(address))

    response = shared.with_client(wallet, home, member, work)
    _show(response.receipt, "taken back", as_json)


@review.command()
def glass(
    break_glass_id: Annotated[str, typer.Argument(help="`command_id` in `cbmdhi inbox --json`.")],
    clinician: Annotated[str, typer.Argument(help="Address of who broke the glass: `actor` there.")],
    justified: Annotated[bool, typer.Option("--justified/--not-justified", help="What came out.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what was found about a break-glass (privacy officers and administrators).

    It is closed when the clinician's member and another one have spoken.
    """
    receipt = shared.with_client(
        wallet,
        home,
        member,
        lambda client: client.registration.review_break_glass(break_glass_id, clinician, justified=justified),
    )
    _show(receipt, "reviewed", as_json)


@review.command()
def reason(
    break_glass_id: Annotated[str, typer.Argument(help="`command_id` in `cbmdhi inbox --json`.")],
    clinician: Annotated[str, typer.Argument(help="Address of who broke the glass: `actor` there.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Why a glass was broken, as the clinician sealed it to this reviewer."""
    broken = shared.with_client(
        wallet, home, member, lambda client: client.registration.broken_glass(break_glass_id, clinician)
    )
    if as_json:
        print(json.dumps(asdict(broken)))
    else:
        console.print(
            f"{broken.reason}: record {broken.record_id}, version {broken.version}, of {broken.patient}"
        )


@review.command()
def suspend(
    address: str,
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
    """
    since_ms = int(void_consents_since.astimezone().timestamp() * 1000) if void_consents_since else 0
    receipt = shared.with_client(
        wallet, home, member, lambda client: client.registration.suspend(address, reason, since_ms)
    )
    _show(receipt, "suspended", as_json)


@review.command()
def reinstate(
    address: str,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Let a suspended identity act again; after a lost key, or when its owner stopped it, two members do."""
    receipt = shared.with_client(wallet, home, member, lambda client: client.registration.reinstate(address))
    _show(receipt, "reinstated", as_json)


def _show(receipt: Receipt, done: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(shared.plain(receipt)))
    else:
        console.print(shared.done(done, receipt.block))


def _vote(
    address: str, wallet: str, member: str, home: Any, as_json: bool, *, approve: bool, reason_code: str
) -> None:
    async def work(client: Client) -> tuple[dict[str, Any] | None, Any]:
        identity = await _waiting(client, address)
        evidence = None
        if approve and identity.role == pb.ROLE_PATIENT:
            evidence = await client.registration.evidence(identity)
        vote = await client.registration.review(identity, approve=approve, reason_code=reason_code)
        return evidence, vote

    evidence, response = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps(shared.plain(response)))
        return
    if evidence is not None:
        print(json.dumps(evidence, indent=2, ensure_ascii=False))
    given = sum(vote.decision == pb.DECISION_APPROVE for vote in response.identity.reviews)
    approved = f"approved by {given} {'member' if given == 1 else 'members'}"
    status = state_pb2.IdentityStatus.Name(response.identity.status).removeprefix("IDENTITY_STATUS_").lower()
    console.print(shared.done("voted", response.receipt.block))
    console.print(f"as the gateway says: {approved}, now {status}")


async def _waiting(client: Client, address: str) -> IdentityDocument:
    """The registration under that address. Raises MeshError NOT_FOUND when none waits."""
    identity = await client.registration.identity(address)
    if identity.status != state_pb2.IDENTITY_STATUS_PENDING:
        raise MeshError(
            code_pb2.CODE_NOT_FOUND,
            "no registration of that address waits: see `cbmdhi review list`",
        )
    return identity
