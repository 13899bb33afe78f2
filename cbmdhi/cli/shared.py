"""What every command of the CLI shares: where wallets are, how a client is opened and results are shown."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cbmdhi.cli import hints, mistyped, passphrases, prefixes, printable
from cbmdhi.cli.home import DEFAULT_SHOWN, command_for, default_home
from cbmdhi.client import Client
from cbmdhi.errors import MeshError, Misuse, WalletError
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import json_text
from cbmdhi.wallet import Wallet

T = TypeVar("T")

# Without a terminal nobody knows a width: wide enough that tables stay whole for grep and for logs.
_WIDTH_ELSEWHERE = 200
_WIDEST = 10_000


class _Console(Console):
    """A console to which no printed text is a command, wherever it comes from. Its own colours are none."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable.lines(segment.text))


class _Table(Table):
    """A table of which each cell is one line."""

    def add_row(self, *cells: RenderableType | None, **how: Any) -> None:
        super().add_row(*(printable.line(one) if isinstance(one, str) else one for one in cells), **how)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return _Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _WIDTH_ELSEWHERE)


console = _console(stderr=False)
errors = _console(stderr=True)

WalletOption = Annotated[
    str,
    typer.Option(
        "--wallet",
        "-w",
        envvar="CBMDHI_WALLET",
        help="Wallet: a folder, or a name under HOME/wallets. Its passphrase is asked for, or read as "
        "`cbmdhi wallet create --help` says.",
    ),
]
MemberOption = Annotated[
    str, typer.Option("--member", "-m", help="Member whose gateway to use; by default the wallet's home.")
]
HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="CBMDHI_HOME",
        help="Folder of the network: wallets, and the consortium's file.",
        show_default=DEFAULT_SHOWN,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
TraceOption = Annotated[bool, typer.Option("--trace", help="Have its trace kept, and print the trace's id.")]

DEFAULT_HOME = default_home()


def wallet_folder(wallet: str, home: Path) -> Path:
    """The folder that a `--wallet` means. Raises WalletError when it is empty."""
    if not wallet:
        raise WalletError("which wallet? give --wallet NAME or set CBMDHI_WALLET")
    given = Path(wallet)
    is_path = given.is_absolute() or os.sep in wallet or wallet in (os.curdir, os.pardir)
    # A folder here that merely has the name of a wallet is none.
    return given if is_path or (given / "wallet.json").is_file() else home / "wallets" / wallet


def open_wallet(wallet: str, home: Path) -> Wallet:
    """Open the wallet that the user means; its passphrase is asked for where that can be done.

    Raises Failure, which says what to do.
    """
    folder = wallet_folder(wallet, home)
    try:
        return Wallet.load(folder, passphrases.to_open(folder))
    except WalletError as error:
        raise hints.of_wallet(error, folder, home) from error


def with_client(
    wallet: str,
    home: Path,
    member: str,
    work: Callable[[Client], Coroutine[Any, Any, T]],
    hinted: hints.Hinted = hints.of,
) -> T:
    """Open the wallet, connect, do the work. Raises Failure with what to do next, which `hinted` knows."""

    opened = open_wallet(wallet, home)
    typist = hints.Typist(home, wallet, member)

    began = time.time()

    async def run() -> T:
        async with Client(opened, member) as client:
            if (down := hints.down(typist, opened)) is not None:
                raise down
            return await work(client)

    try:
        return asyncio.run(run())
    except KeyboardInterrupt as error:
        if (interrupted := hints.cut_off(began, typist, opened)) is None:
            raise
        raise interrupted from error
    except MeshError as error:
        raise hints.failure(error, typist, opened, hinted) from error


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
    was_there = output.exists()
    try:
        # Opened and not asked about: who may do everything is told so of a folder that takes no file.
        os.close(os.open(output, os.O_WRONLY | os.O_CREAT, 0o600))
        if not was_there:
            output.unlink()
    except OSError as error:
        why = f"({error.strerror or error}): name a file in a folder that is there and yours"
        raise Misuse(f"{output} cannot be written {why}") from error


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
    known = set(words)
    for word in given:
        if word not in known:
            raise Misuse(f"there is no {option} {word!r}; {mistyped.of(word, known)}")


def record_and_version(typed: str) -> tuple[str, int]:
    """ID or ID/VERSION; 0 stands for no version. Raises Misuse."""
    record_id, slash, version = typed.partition("/")
    if slash and not (version.isdecimal() and 1 <= int(version) < 2**32):
        raise Misuse(f"a version is a number from 1: ID/VERSION, and not {typed!r}")
    return record_id, int(version or 0)


def patient_named(typed: str, home: Path) -> str:
    """The patient's address, from it or from its beginning. Raises Misuse, which says how to get it."""
    return check_address(typed, home, option="-p ", whose="the patient's")


def check_address(typed: str, home: Path, *, option: str = "", whose: str = "its") -> str:
    """An address; the beginning of one that a wallet of this home has will do. Raises Misuse."""
    if addresses.is_address(typed):
        return typed
    if prefixes.may_begin_address(typed):
        return prefixes.resolved(typed, prefixes.addresses_in(home), "address of a wallet here")
    show = command_for(home, "wallet", "show", "-w", typed if typed.isidentifier() else "NAME")
    what = f"{option}{typed!r} is no address, which is cb1 and 32 characters"
    raise Misuse(f"{what}; {whose} wallet shows it: {show}")


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
    """An empty table with those columns, to `show`."""
    made = _Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(rows: Table) -> None:
    """A table where it fits; else a paragraph for each row, in which no id is broken."""
    natural = Measurement.get(console, console.options.update_width(_WIDEST), rows).maximum
    if natural <= console.width:
        console.print(rows)
        return
    for cells in zip(*(column.cells for column in rows.columns), strict=True):
        told = Text()
        for column, cell in zip(rows.columns, cells, strict=True):
            if cell:
                told.append(f"{column.header} " if column.header else "", "dim").append(f"{cell}  ")
        console.print(told, "", sep="\n")


def say(*lines: str) -> None:
    """Words that are no data, such as what to type next: on standard error, each line whole."""
    for line in lines:
        errors.print(line, soft_wrap=True, markup=False)


def done(what: str, block: int) -> str:
    """Of a receipt that the client has proven; the number of its block is in nothing that the peers sign."""
    return f"[green]{what}[/green]: most members' peers hold it (block {block}, says the gateway)"


def show_receipt(receipt: Receipt, what: str, *, as_json: bool) -> None:
    """The receipt of something that was done: for machines, or in a sentence."""
    if as_json:
        print(json.dumps(plain(receipt)))
    else:
        console.print(done(what, receipt.block))


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 member, 2 members."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
