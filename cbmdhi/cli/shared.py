"""What every command of the CLI shares: where wallets are, how results and errors are shown."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.console import Console
from rich.table import Table

from cbmdhi.cli import hints
from cbmdhi.client import Client
from cbmdhi.errors import MeshError, Misuse, WalletError
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import json_text
from cbmdhi.wallet import Wallet
from ops.devnet.layout import command_for, home_at

T = TypeVar("T")

# Without a terminal nobody knows a width: wide enough that tables stay whole for grep and for logs.
_WIDTH_ELSEWHERE = 160


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _WIDTH_ELSEWHERE)


console = _console(stderr=False)
errors = _console(stderr=True)

WalletOption = Annotated[
    str,
    typer.Option(
        "--wallet", "-w", envvar="CBMDHI_WALLET", help="Wallet: a folder, or a name under HOME/wallets."
    ),
]
MemberOption = Annotated[
    str, typer.Option("--member", "-m", help="Member whose gateway to use; by default the wallet's home.")
]
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="CBMDHI_HOME", help="Folder of the laptop network.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

# What `cbmdhi up` starts by default: the checkout's, from whatever folder the command is typed.
DEFAULT_HOME = home_at(None).path


def wallet_folder(wallet: str, home: Path) -> Path:
    """The folder that a `--wallet` means. Raises WalletError when it is empty."""
    if not wallet:
        raise WalletError("which wallet? give --wallet NAME or set CBMDHI_WALLET")
    given = Path(wallet)
    return given if given.is_absolute() or os.sep in wallet or given.exists() else home / "wallets" / wallet


def open_wallet(wallet: str, home: Path) -> Wallet:
    """Open the wallet that the user means."""
    return Wallet.load(wallet_folder(wallet, home), os.environ.get("CBMDHI_WALLET_PASSPHRASE", ""))


def with_client(wallet: str, home: Path, member: str, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Open the wallet, connect, do the work; errors are told as `guarded` does."""

    opened = guarded(lambda: open_wallet(wallet, home))
    typist = hints.Typist(home, wallet, member)

    async def run() -> T:
        async with Client(opened, member) as client:
            if (down := hints.down(typist, opened)) is not None:
                raise down
            return await work(client)

    return guarded(lambda: asyncio.run(run()), lambda error: hints.of(error, typist, opened))


def guarded(work: Callable[[], T], hint: Callable[[MeshError], hints.Hint] = lambda _: hints.Hint()) -> T:
    """Do the work; an error of the mesh is shown as a person needs it, and ends with status
    1, or with 2 when what was typed cannot be."""
    try:
        return work()
    except MeshError as error:
        more = hint(error)
        if "--json" in sys.argv:
            document = {"code": error.code_name, "reason": error.reason, "path": error.path}
            print(json.dumps({"error": document | more.document}))
        errors.print(
            f"[red]{error.code_name}[/red] {error.reason}" + (f" (at {error.path})" if error.path else "")
        )
        for line in more.lines:
            errors.print(line, soft_wrap=True, markup=False)
        raise typer.Exit(2 if isinstance(error, Misuse) else 1) from error


def content_of(file: Path) -> bytes:
    """What is in a file, to the byte; `-` is the standard input. Raises Misuse."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Misuse(f"{file} cannot be read: {error.strerror or error}") from error


def json_object(file: Path) -> tuple[bytes, dict[str, Any]]:
    """The JSON object in a file, to the byte, and what it says; a decimal is a Decimal. Raises Misuse."""
    raw = content_of(file)
    try:
        return raw, json_text.parse_object(raw)
    except json_text.NotJson as error:
        raise Misuse(f"{file} {error}") from error


def write_content(content: bytes, output: Path | None) -> None:
    """Write a record's content to a file or the standard output, to the byte. Raises Misuse."""
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content + (b"\n" if sys.stdout.isatty() else b""))
        sys.stdout.flush()
        return
    try:
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
    except OSError as error:
        raise Misuse(f"{output} cannot be written: {error.strerror or error}") from error


def check_writable(output: Path) -> None:
    """Refuse a file that cannot be written before anything is asked for. Raises Misuse."""
    place = output if output.exists() else output.parent
    if output.is_dir() or not os.access(place, os.W_OK):
        raise Misuse(f"{output} cannot be written: name a file in a folder that is there and yours")


def json_line(document: dict[str, Any], content: bytes) -> str:
    """A document for machines, with a record's content as it is for its `resource`."""
    text = content.decode() if is_object(content) else "null"
    return f'{json.dumps(document)[:-1]}, "resource": {text.strip()}}}'


def is_object(content: bytes) -> bool:
    """Whether every program reads the content as the same JSON object."""
    try:
        json_text.parse_object(content)
    except json_text.NotJson:
        return False
    return True


def closed(option: str, given: Sequence[str], words: Iterable[str]) -> None:
    """Refuse what is not of a closed list. Raises Misuse, which names the list."""
    known = sorted(words)
    for word in given:
        if word not in known:
            raise Misuse(f"{option} {word!r} is not one of: {', '.join(known)}")


def check_patient(given: str, home: Path) -> None:
    """Refuse a patient that is no address. Raises Misuse, which says how to get it."""
    if not addresses.is_address(given):
        show = command_for(home, "wallet", "show", "-w", given if given.isidentifier() else "NAME")
        what = f"-p {given!r} is no address, which is cb1 and 32 characters"
        raise Misuse(f"{what}; the patient's wallet shows it: {show}")


def check_member(wallet: Wallet, member: str) -> None:
    """Refuse a member that there is none where nobody is asked. Raises Misuse."""
    try:
        wallet.consortium.member_named(member or wallet.member)
    except KeyError as error:
        raise Misuse(str(error.args[0])) from error


def shown(path: Path) -> Path:
    """A path as a person here would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON, field names as in the protos."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def table(*columns: str) -> Table:
    """An empty table with those columns; what is wider than the terminal is folded and never cut off."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def done(what: str, block: int) -> str:
    """Of a receipt that the client has proven; the number of its block is in nothing that the peers sign."""
    return f"[green]{what}[/green]: most members' peers hold it (block {block}, says the gateway)"


def short(identifier: str) -> str:
    """An address or transaction id as it fits a table; `--json` gives it whole."""
    return identifier if len(identifier) <= 12 else f"{identifier[:6]}…{identifier[-4:]}"
