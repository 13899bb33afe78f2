"""The network that is measured: the one that runs at a home, or one that is started for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ops.devnet import DevnetError, Network
from ops.devnet.layout import home_at

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="CBMDHI_HOME", help="Folder of the laptop network.")
]
DEFAULT_HOME = home_at(None).path


@contextmanager
def running(home: Path) -> Iterator[Network]:
    """The network at `home`, started if need be, and stopped afterwards if it was not running."""
    network = Network(home)
    try:
        started = network.up()
    except DevnetError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    try:
        yield network
    finally:
        if not started.already_running:
            network.down()
