"""`make drills`: a laptop network of its own, a Prometheus with the real rules, each runbook followed."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cbmdhi.errors import MeshError
from ops.devnet import DevnetError, Network
from ops.devnet.progress import Shown
from ops.devnet.waiting import until
from ops.observe.ports import free_port
from ops.observe.prometheus import Prometheus
from tests.drills import plan, runbook, users
from tests.drills.drill import Drilling
from tests.drills.mesh import Mesh
from tests.drills.report import Account, Outcome
from tests.drills.shell import Shell
from tests.drills.short_rules import FAST, REAL, Pace, hasten

_console = Console(highlight=False)
if not _console.is_terminal:  # a log: the table would be squeezed into 80 columns
    _console = Console(highlight=False, width=200)

_END_SECONDS = 120.0


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Follow this alert's page alone; repeat for several.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the drills, and what cannot be tried.")] = False,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast/--real",
            help="Times of the alerts divided by 15, of the objectives by 360; or as they are (hours).",
        ),
    ] = True,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of the drills' network, which is kept; by default one that is removed."),
    ] = None,
) -> None:
    """Break a network of its own in every way that a runbook is about, and mend it as the runbook says.

    Ends with 1 when an alert does not fire, does not end, or the mesh does not work afterwards.
    """
    if show:
        _list()
        return
    try:
        drills = plan.named(only or [])
        outcomes = asyncio.run(_at_home(home, drills, FAST if fast else REAL))
    except (DevnetError, MeshError, FileNotFoundError, KeyError) as error:
        _console.print(f"[red]✗[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    except asyncio.CancelledError as error:
        _console.print("Interrupted; what was started is ended.")
        raise typer.Exit(130) from error
    raise typer.Exit(1 if any(one.problem for one in outcomes) else 0)


def _list() -> None:
    for drill in plan.DRILLS:
        labels = ", ".join(f"{name}={value}" for name, value in drill.labels.items())
        _console.print(f"{drill.alert:<24} {labels}")
    for alert in plan.ON_KUBERNETES:
        _console.print(f"{alert:<24} followed by `make k8s-run`", soft_wrap=True)


async def _at_home(home: Path | None, drills: Sequence[plan.Drill], pace: Pace) -> list[Outcome]:
    """The network is ended whatever happens: removed, or stopped when its folder was named."""
    _end_when_interrupted()
    chosen = home or Path(tempfile.mkdtemp(prefix="cbmdhi-drills-"))
    with Shown(Console(stderr=True, highlight=False)) as progress:
        network = Network(chosen, progress=progress)
        try:
            await asyncio.to_thread(network.up)
            return await _follow_all(network, drills, pace)
        finally:
            # In this thread: nothing else is to be done meanwhile.
            _end(network, keep=home is not None)


def _end_when_interrupted() -> None:
    """Ctrl-C and SIGTERM cancel what is being done, so that all of it is undone in its order."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _end(network: Network, *, keep: bool) -> None:
    """Raises DevnetError when something goes on changing the network."""

    def ended() -> bool:
        try:
            if keep:
                network.down()
            else:
                network.clean()
        except DevnetError:  # a command of a page, or mending of ours, has not let go of it yet
            return False
        return True

    until(lambda: ended() or None, "the end of the drills' network", _END_SECONDS)
    if not keep:
        shutil.rmtree(network.home, ignore_errors=True)


async def _follow_all(network: Network, drills: Sequence[plan.Drill], pace: Pace) -> list[Outcome]:
    folder = network.home / "observe"
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / "data", ignore_errors=True)
    account, outcomes = Account(_console), list[Outcome]()
    started = time.monotonic()
    async with AsyncExitStack() as running:
        gathered = await users.gather(network.home, running)
        prometheus = await running.enter_async_context(
            Prometheus(folder, free_port(), network.endpoints(), lambda copy: hasten(copy, pace))
        )
        _console.print(
            f"Prometheus at {prometheus.url} scrapes {prometheus.targets} targets. Thresholds stay; times "
            f"are divided by {pace.alerts:g}, those of the objectives by {pace.objectives:g}."
        )
        shell = Shell(network.home, folder / "drills.log")
        mesh = Mesh(network, gathered)
        await mesh.works(60)
        drilling = Drilling(mesh, prometheus, shell, account, pace)
        for drill in drills:
            outcomes.append(await drilling.follow(drill, runbook.read(drill.alert)))
    account.conclude(outcomes, plan.ON_KUBERNETES, time.monotonic() - started)
    return outcomes


if __name__ == "__main__":
    typer.run(main)
