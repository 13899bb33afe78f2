"""`cbmdhi wallet`: keys, enrolment, registration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from cbmdhi.cli import hints, shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, WalletError
from cbmdhi.wallet import Wallet
from ops.devnet.layout import command_for

app = typer.Typer(
    no_args_is_help=True, help="Keys that never leave this machine, and what they are registered as."
)

ROLES: dict[str, pb.Role] = {
    name.removeprefix("ROLE_").lower().replace("_", "-"): cast(pb.Role, value)
    for name, value in pb.Role.items()
    if value
}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name under HOME/wallets, or a folder.")],
    member: Annotated[str, typer.Option("--member", "-m", help="Home member, such as mercy.")],
    role: Annotated[str, typer.Option(help=f"One of: {', '.join(ROLES)}.")] = "patient",
    consortium: Annotated[
        Path | None, typer.Option(help="The consortium file to trust; by default HOME/consortium.json.")
    ] = None,
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make the keys of a new identity. Set CBMDHI_WALLET_PASSPHRASE to encrypt them."""

    def work() -> Wallet:
        passphrase = os.environ.get("CBMDHI_WALLET_PASSPHRASE", "")
        folder = shared.wallet_folder(name, home)
        return Wallet.create(
            folder, consortium or home / "consortium.json", member, role_named(role), passphrase
        )

    wallet = shared.guarded(work)
    if as_json:
        print(json.dumps(_public(wallet)))
        return
    console.print(f"[green]made[/green] {wallet.address}  in {wallet.folder}")
    if wallet.role == pb.ROLE_PATIENT:
        typist = hints.Typist(home, name)
        console.print(f"next: {_enrol(wallet, typist)}  and  {_register(wallet, typist)}", soft_wrap=True)
    else:
        console.print(
            f"next: ask an administrator of {member} for "
            f"`{command_for(home, 'invite', wallet.address, '--role', role, '-w', 'THEIRS')}`",
            soft_wrap=True,
        )
        if wallet.role == pb.ROLE_ADMINISTRATOR:
            invite_it = command_for(home, "operator-invite", member, wallet.address)
            console.print(f"the first one: its operator runs `{invite_it}`", soft_wrap=True)


@app.command()
def show(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the channel.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show address, certificate and, from the channel, status. Never a private key."""
    opened = shared.guarded(lambda: shared.open_wallet(wallet, home))
    document: dict[str, Any] = _public(opened)
    typist, status, reviews, following = hints.Typist(home, wallet), "", "", ""
    if not offline and not opened.certificate_pem:
        shared.guarded(lambda: shared.check_member(opened, member))
        status, following = "not enrolled", _enrol(opened, typist)
    elif not offline:
        identity = shared.with_client(wallet, home, member, _identity)
        if identity is None:
            status, following = "not registered", _register(opened, typist)
        else:
            document["channel"] = shared.plain(identity)
            status = str(document["channel"]["status"]).removeprefix("IDENTITY_STATUS_").lower()
            reviews = ", ".join(review.msp for review in identity.reviews) or "none"
    if following:
        document["next"] = following
    if as_json:
        print(json.dumps(document))
        return
    table = Table(show_header=False, box=None)
    for key in ("address", "role", "member", "folder", "enrolled"):
        table.add_row(key, str(document[key]))
    for key, value in (("status", status), ("reviews", reviews)):
        if value:
            table.add_row(key, value)
    console.print(table)
    if following:
        console.print(f"next: {following}", soft_wrap=True, markup=False)


@app.command()
def enrol(
    wallet: WalletOption = "",
    secret: Annotated[
        str, typer.Option(envvar="CBMDHI_INVITATION", help="Secret of the invitation (staff).")
    ] = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Have the member's Fabric CA certify the wallet's key; the key stays here."""

    async def work(client: Client) -> Wallet:
        await client.registration.enrol(secret)
        return client.wallet

    enrolled = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps({"enrolled": True}))
    else:
        console.print(
            f"[green]enrolled[/green]; next: {_register(enrolled, hints.Typist(home, wallet))}",
            soft_wrap=True,
        )


@app.command()
def register(
    wallet: WalletOption = "",
    evidence: Annotated[
        Path | None,
        typer.Option(help="JSON with the personal data that reviewers check (required of patients)."),
    ] = None,
    custodian: Annotated[
        list[str] | None,
        typer.Option(help="MSP id of a member that may open your records; repeat; default all."),
    ] = None,
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask the consortium for the identity. A patient's personal data is sealed here, to the reviewers."""

    proof = shared.guarded(lambda: shared.json_object(evidence))[1] if evidence else None

    async def work(client: Client) -> Any:
        receipt = await client.registration.register(proof, custodian)
        return receipt, await client.registration.identity()

    receipt, identity = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps({"receipt": shared.plain(receipt), "identity": shared.plain(identity)}))
        return
    status = state_pb2.IdentityStatus.Name(identity.status).removeprefix("IDENTITY_STATUS_").lower()
    console.print(f"{shared.done('registered', receipt.block)}; status, as the gateway says: {status}")
    if identity.status == state_pb2.IDENTITY_STATUS_PENDING:
        see = hints.Typist(home, wallet).command("wallet", "show")
        console.print(f"it becomes active when enough members have approved: see `{see}`", soft_wrap=True)


async def _identity(client: Client) -> state_pb2.IdentityDocument | None:
    """The wallet's own identity; None while it is not registered."""
    try:
        return await client.registration.identity()
    except MeshError as error:
        if error.code != code_pb2.CODE_NOT_FOUND:
            raise
        return None


def _enrol(wallet: Wallet, typist: hints.Typist) -> str:
    secret = () if wallet.role == pb.ROLE_PATIENT else ("--secret", "SECRET")
    return typist.command("wallet", "enrol", *secret)


def _register(wallet: Wallet, typist: hints.Typist) -> str:
    evidence = ("--evidence", "FILE") if wallet.role == pb.ROLE_PATIENT else ()
    return typist.command("wallet", "register", *evidence)


def role_named(name: str) -> pb.Role:
    """The role of that name. Raises WalletError with those that there are."""
    if name not in ROLES:
        raise WalletError(f"no role {name!r}; there are: {', '.join(ROLES)}")
    return ROLES[name]


def _public(wallet: Wallet) -> dict[str, Any]:
    role = pb.Role.Name(wallet.role).removeprefix("ROLE_").lower()
    return {
        "address": wallet.address,
        "role": role,
        "member": wallet.member,
        "folder": str(wallet.folder),
        "enrolled": bool(wallet.certificate_pem),
    }
