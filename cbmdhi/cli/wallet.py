"""`cbmdhi wallet`: keys, enrolment, registration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cbmdhi.cli import hints, lazy, passphrases, shared
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.home import command_for, elsewhere
from cbmdhi.cli.roles import ROLES, name_of_role, role_named
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse, WalletError
from cbmdhi.wallet import Wallet

app = typer.Typer(
    no_args_is_help=True, help="Keys that never leave this machine, and what they are registered as."
)

# What lies in the folder of a wallet whose making was cut short.
_HALF_MADE = {"consortium.json", "wallet.json"}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name under HOME/wallets, or a folder.")],
    member: Annotated[str, typer.Option("--member", "-m", help="Home member, such as mercy.")],
    role: Annotated[str, typer.Option(help=f"One of: {', '.join(ROLES)}.")] = "patient",
    consortium: Annotated[
        Path | None, typer.Option(help="The consortium file to trust; by default HOME/consortium.json.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Keep the keys unencrypted: for engines and tests.")
    ] = False,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="Read the passphrase from this file's first line; /dev/fd/3 is the descriptor 3."),
    ] = None,
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make the keys of a new identity, encrypted with a passphrase.

    At a terminal the passphrase is asked for. Without one it is read from CBMDHI_WALLET_PASSPHRASE, or from
    the file that CBMDHI_WALLET_PASSPHRASE_FILE names (/dev/fd/3 is the descriptor 3); every other command
    reads it in the same way. Nobody can recover it. With --plain the keys are kept as they are.

    Examples:

        cbmdhi wallet create anna -m mercy

        cbmdhi wallet create mercy-lab -m mercy --role engine --passphrase-file /run/secrets/mercy-lab --json

        cbmdhi wallet create test-engine -m mercy --role engine --plain
    """
    folder, trusted, chosen = (
        shared.wallet_folder(name, home),
        consortium or home / "consortium.json",
        role_named(role),
    )
    # Before anybody types a passphrase for nothing.
    if (folder / "keys.json").exists():
        raise WalletError(f"there is a wallet in {folder} already; choose another name")
    if not trusted.exists():
        raise Failure(
            "FILE",
            f"there is no consortium file at {trusted}",
            status=Status.MISTYPED,
            next_steps=[
                "any member of your consortium gives it to you: name it with --consortium FILE",
                *hints.to_start(home, "or start a laptop network"),
            ],
        )
    if folder.is_dir() and not {one.name for one in folder.iterdir()} <= _HALF_MADE:
        raise Misuse(f"{folder} holds other things already; a wallet is made in a folder of its own")
    passphrase = passphrases.to_create(plain=plain, file=passphrase_file)
    wallet = Wallet.create(folder, trusted, member, chosen, passphrase)
    if as_json:
        print(json.dumps(_public(wallet)))
        return
    kept = "unencrypted" if plain else "encrypted"
    console.print(f"[green]made[/green] {wallet.address}  in {wallet.folder}, {kept}", soft_wrap=True)
    typist = hints.Typist(home, name)
    if wallet.role == pb.ROLE_PATIENT:
        following = [f"next: {_enrol(wallet, typist)}", f"then: {_register(wallet, typist)}"]
    else:
        following = [f"next: {hints.invite(typist, wallet)}"]
    if wallet.role == pb.ROLE_ADMINISTRATOR:
        following.append(f"the first one is invited by its operator: {_operator_invite(wallet, home)}")
    for line in following:
        console.print(line, soft_wrap=True, markup=False)


@app.command()
def show(
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the channel.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show address, certificate and, from the channel, status. Never a private key.

    Examples:

        cbmdhi wallet show -w anna

        cbmdhi wallet show -w anna --offline --json
    """
    opened = shared.open_wallet(wallet, home)
    document: dict[str, Any] = _public(opened)
    typist, status, reviews, following = hints.Typist(home, wallet), "", "", ""
    if not offline and not opened.certificate_pem:
        shared.check_member(opened, member)
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
    """Have the member's Fabric CA certify the wallet's key; the key stays here.

    Staff and engines need the secret of an invitation: in CBMDHI_INVITATION it is in no list of processes.

    Examples:

        cbmdhi wallet enrol -w anna

        cbmdhi wallet enrol -w mercy-lab --secret q1w2e3r4t5
    """

    async def work(client: Client) -> Wallet:
        await client.registration.enrol(secret)
        return client.wallet

    enrolled = shared.with_client(wallet, home, member, work, hints.of_enrolment)
    if as_json:
        print(json.dumps({"enrolled": True}))
    else:
        console.print("[green]enrolled[/green]")
        console.print(
            f"next: {_register(enrolled, hints.Typist(home, wallet))}", soft_wrap=True, markup=False
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
    """Ask the consortium for the identity. A patient's personal data is sealed here, to the reviewers.

    Examples:

        cbmdhi wallet register -w anna --evidence person.json

        cbmdhi wallet register -w anna --evidence person.json --custodian MercyMSP --custodian LakesideMSP
    """

    proof = shared.json_object(evidence)[1] if evidence else None

    async def work(client: Client) -> Any:
        if proof is None and client.wallet.role == pb.ROLE_PATIENT:
            raise Misuse(
                "a patient shows evidence, by which reviewers know them: --evidence FILE", "evidence"
            )
        receipt = await client.registration.register(proof, custodian)
        return receipt, await client.registration.identity()

    receipt, identity = shared.with_client(wallet, home, member, work, hints.of_registration)
    if as_json:
        print(json.dumps({"receipt": shared.plain(receipt), "identity": shared.plain(identity)}))
        return
    status = state_pb2.IdentityStatus.Name(identity.status).removeprefix("IDENTITY_STATUS_").lower()
    console.print(f"{shared.done('registered', receipt.block)}; status, as the gateway says: {status}")
    if identity.status == state_pb2.IDENTITY_STATUS_PENDING:
        see = hints.Typist(home, wallet).command("wallet", "show")
        shared.say(f"it becomes active when enough members have approved, which shows: {see}")


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


def _operator_invite(wallet: Wallet, home: Path) -> str:
    words = "operator-invite", wallet.consortium.member_named(wallet.member).name, wallet.address
    return command_for(home, *words) if lazy.is_here(words[0]) else elsewhere(*words)


def _register(wallet: Wallet, typist: hints.Typist) -> str:
    evidence = ("--evidence", "FILE") if wallet.role == pb.ROLE_PATIENT else ()
    return typist.command("wallet", "register", *evidence)


def _public(wallet: Wallet) -> dict[str, Any]:
    return {
        "address": wallet.address,
        "role": name_of_role(wallet.role),
        "member": wallet.member,
        "folder": str(wallet.folder),
        "enrolled": bool(wallet.certificate_pem),
    }
