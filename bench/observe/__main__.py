"""`make observe`: Prometheus over the laptop network under a little load; every panel and alert is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.headline import Plan
from bench.load.plan import Load
from bench.observe import load, plots
from cbmdhi.errors import MeshError
from ops.devnet import DevnetError, Network
from ops.devnet.layout import home_at
from ops.devnet.progress import Shown
from ops.observe import evaluate, grafana_server
from ops.observe.dashboards import ALL, OVERVIEW
from ops.observe.evaluate import Evaluated
from ops.observe.ports import free_port
from ops.observe.prometheus import Prometheus

_console = Console(highlight=False)
if not _console.is_terminal:  # a log: tables would be squeezed into 80 columns
    _console = Console(highlight=False, width=150)
_SETTLE_SECONDS = 60.0
_HEADLINE_SECONDS = 120.0
# So many patients' first records are no load of their own.
_FEW = 100


def main(
    home: Annotated[
        Path | None, typer.Option("--home", envvar="CBMDHI_HOME", help="Folder of the laptop network.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Records and reads a second.")] = 60.0,
    seconds: Annotated[float, typer.Option(min=5, help="How long the load lasts.")] = 30.0,
    headline: Annotated[
        bool,
        typer.Option(
            help="Two minutes of the load of `make bench` instead: 1,000 records a second about 5,000"
            " patients, who are registered first (a quarter of an hour, once)."
        ),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Where the overview under the load is drawn, besides.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option("--plots", help="Folder of the pictures.")] = None,
    stay: Annotated[bool, typer.Option(help="Leave Prometheus and Grafana running until Ctrl-C.")] = False,
) -> None:
    """Start the network if need be, then Prometheus; show what every panel shows.

    Ends with 1 when a query is refused, a panel is empty that should not be, or a target is not scraped.
    """
    try:
        with Shown(Console(stderr=True, highlight=False)) as progress:
            network = Network(home_at(home).path, progress=progress)
            network.up()
        little = Load(rate, seconds, 4, patients=10, reads=0.2)
        wanted = Plan().load(Plan().rates[0], _HEADLINE_SECONDS) if headline else little
        problems = asyncio.run(_observe(network, wanted, pictures, picture, stay=stay))
    except (DevnetError, MeshError, FileNotFoundError) as error:
        _console.print(f"[red]✗[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    for problem in problems:
        _console.print(f"[red]✗[/] {escape(problem)}", soft_wrap=True)
    raise typer.Exit(1 if problems else 0)


async def _observe(
    network: Network, wanted: Load, pictures: Path | None, picture: Path | None, *, stay: bool
) -> list[str]:
    folder = network.home / "observe"
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as running:
        endpoints = network.endpoints()
        prometheus = await running.enter_async_context(Prometheus(folder, free_port(), endpoints))
        _console.print(f"Prometheus at {prometheus.url} scrapes {prometheus.targets} targets.")
        grafana = None
        if program := grafana_server.installed():
            server = grafana_server.Grafana(program, folder, free_port(), prometheus.url)
            grafana = await running.enter_async_context(server)
        moments = [time.time()]
        with _console.status(f"{wanted.rate:g} records and reads a second for {wanted.seconds:g} s"):
            result = await load.put(
                network.home,
                endpoints,
                wanted,
                first_records=wanted.patients > _FEW,
                begun=lambda: moments.append(time.time()),
            )
        started, ended = moments[-1], moments[-1] + wanted.seconds
        _console.print(
            f"{result['committed']} records committed, {result['read']} read; "
            + ("every receipt stands." if result["stands"] else "NOT every receipt stands.")
        )
        problems = [] if result["stands"] else ["the load's receipts do not all stand"]
        found = await evaluate.panels_settled(prometheus, _SETTLE_SECONDS)
        _show(found)
        problems += await _problems(prometheus, found)
        drawn = await _draw(prometheus, pictures or folder / "plots", started, ended, wanted.title())
        if picture:
            drawn.append(await plots.draw(prometheus, OVERVIEW, picture, started, ended, wanted.title()))
        await _conclude(prometheus, found, drawn, problems)
        if grafana is not None:
            _console.print(f"Grafana: {grafana.url} has the {len(ALL)} dashboards of deploy/grafana.")
        else:
            _console.print("grafana-server is not installed; tables and pictures above are its queries.")
        if stay:
            _console.print(f"Prometheus stays at {prometheus.url}; Ctrl-C ends it.")
            await asyncio.Event().wait()
    return problems


async def _problems(prometheus: Prometheus, found: Sequence[Evaluated]) -> list[str]:
    problems = [
        f"{one.dashboard}, {one.panel.title}: {one.problem}: {one.query.expr}" for one in found if one.problem
    ]
    problems += [
        f"{one['labels']['job']} of {one['labels'].get('organisation')}: {one['lastError']}"
        for one in await prometheus.scraped()
        if one["health"] != "up"
    ]
    return problems + await evaluate.rules(prometheus) + await evaluate.missing_inputs(prometheus)


def _show(found: Sequence[Evaluated]) -> None:
    titles = {one.name: one.title for one in ALL}
    for name, panels in groupby(found, key=lambda one: one.dashboard):
        table = Table(title=titles[name], title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("panel", max_width=60)
        table.add_column("unit")
        table.add_column("series", justify="right")
        table.add_column("now, the largest first")
        for one in panels:
            state = escape(one.problem) if one.problem else evaluate.shown(one.series)
            colour = "red" if one.problem else "default"
            rests = f"none: {one.panel.rests}" if not one.series and one.panel.rests else state
            table.add_row(one.panel.title, one.panel.unit, str(len(one.series)), f"[{colour}]{rests}[/]")
        _console.print(table, "")


async def _draw(prometheus: Prometheus, folder: Path, started: float, ended: float, under: str) -> list[Path]:
    return [
        await plots.draw(prometheus, one, folder / f"{one.name}.png", started, ended, under)
        for one in ALL
        if one is OVERVIEW or one.name == "slo"
    ]


async def _conclude(
    prometheus: Prometheus, found: Sequence[Evaluated], drawn: Sequence[Path], problems: Sequence[str]
) -> None:
    rules = await prometheus.rules()
    alerts = [rule for rule in rules if rule["type"] == "alerting"]
    firing = sorted({rule["name"] for rule in alerts if rule["state"] == "firing"})
    series = (await prometheus.query("count({__name__=~'.+'})"))[0].values[0][1]
    filled = sum(1 for one in found if one.series)
    _console.print(f"pictures: {', '.join(map(str, drawn))}", soft_wrap=True)
    _console.print(
        f"{len(found)} queries of {sum(len(one.panels) for one in ALL)} panels in {len(ALL)} dashboards: "
        f"{filled} with series, {sum(bool(one.problem) for one in found)} wrong."
    )
    _console.print(
        f"{len(rules)} rules evaluated, {len(alerts)} of them alerts; "
        f"firing: {', '.join(firing) or 'none'}. {series:,.0f} series in all."
    )
    if not problems:
        _console.print("[green]Every panel and every alert is evaluated on real data, and none is wrong.[/]")


if __name__ == "__main__":
    typer.run(main)
