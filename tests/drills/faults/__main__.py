"""python -m tests.drills.faults NAME: each runbook that names one says when, and how it is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from cbmdhi.errors import MeshError
from ops.devnet import DevnetError, Network
from ops.devnet.layout import home_at
from tests.drills import users as people
from tests.drills.faults import callers, certificate, fabric, stores
from tests.drills.users import People

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

_Home = Annotated[Path | None, typer.Option("--home", envvar="CBMDHI_HOME", help="Folder of the network.")]
_Member = Annotated[str, typer.Argument(help="mercy or lakeside.")]
_Seconds = Annotated[float, typer.Option(min=1, help="How long.")]


@app.command()
def break_glass(home: _Home = None) -> None:
    """A clinician of lakeside reads a record in an emergency, whom no consent permits it."""
    _with_people(home, callers.break_glass)


@app.command()
def emergency(home: _Home = None) -> None:
    """Lakeside's peer is stopped short; a clinician of mercy opens a record of a patient of mercy.

    Undone by `cbmdhi up`.
    """
    network = Network(home)
    _with_people(home, lambda users: callers.emergency(network, users))


@app.command()
def strangers(seconds: _Seconds = 1800.0, home: _Home = None) -> None:
    """Ten calls a second at mercy's gateway, with a certificate that holds and a token that is made up."""
    _with_people(home, lambda users: callers.strangers(users, seconds))


@app.command()
def conflicts(seconds: _Seconds = 1800.0, home: _Home = None) -> None:
    """The patient replaces one consent through both members at once, again and again."""
    _with_people(home, lambda users: callers.conflicts(users, seconds))


@app.command()
def flood(reads: Annotated[int, typer.Option(min=1)] = 15_000, home: _Home = None) -> None:
    """Reads in charts of 100, all at once, through mercy; then mercy's storage is stopped short.

    The last of it is left to `supervisorctl … signal CONT mercy-storage`.
    """
    network = Network(home)
    _with_people(home, lambda users: callers.flood(network, users, reads))


@app.command()
def rot(home: _Home = None) -> None:
    """Other bytes under the CID of a record in mercy's Kubo node; then the record is read."""
    network = Network(home)
    _with_people(home, lambda users: stores.rot(network, users))


@app.command()
def fill(
    member: _Member, share: Annotated[float, typer.Option(min=0, max=1)] = 0.85, home: _Home = None
) -> None:
    """Fill what JetStream may keep on disk up to a share, with a stream named FIRE_DRILL."""
    _told(lambda: stores.fill(Network(home).endpoints(), member, share))


@app.command()
def empty(member: _Member, home: _Home = None) -> None:
    """Remove that stream."""
    _told(lambda: stores.empty(Network(home).endpoints(), member))


@app.command()
def cut_off(member: _Member, home: _Home = None) -> None:
    """The peer looks for the orderer where nobody is, by `addressOverrides` in its core.yaml."""
    _told(lambda: fabric.cut_off(Network(home), member))


@app.command()
def crowd(member: _Member, seconds: _Seconds = 1800.0, home: _Home = None) -> None:
    """Take the only place at a peer that lets one listener follow its blocks; the ledger service finds none.

    Undone by `deliverService: 2500` in core.yaml, and a start of the peer.
    """
    _told(lambda: fabric.crowd(Network(home), member, seconds))


@app.command()
def short_certificate(
    member: _Member,
    service: Annotated[str, typer.Argument(help="Whose TLS certificate.")],
    hours: Annotated[float, typer.Option(min=0.1, help="How long it holds.")] = 36.0,
    home: _Home = None,
) -> None:
    """Give a service a TLS certificate of the same CA that ends soon, and start it again."""

    async def work() -> None:
        await asyncio.to_thread(certificate.shorten, Network(home), member, service, hours)

    _told(work)


def _with_people(home: Path | None, work: Callable[[People], Awaitable[None]]) -> None:
    async def entered() -> None:
        async with AsyncExitStack() as clients:
            await work(await people.gather(home_at(home).path, clients))

    _told(entered)


def _told(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        typer.echo("stopped")
    except (MeshError, DevnetError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
