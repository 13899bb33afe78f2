"""`make bench`: the headline table, measured, verified, and written into the documents."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import (
    headline,
    hostile,
    idle_network,
    layers,
    machine_speed,
    network,
    paper_design,
    progress,
    readme_table,
    results_files,
)
from bench.environment import ROOT
from bench.headline import QUICK, Plan
from bench.load.session import Session
from bench.readme_table import Line
from cbmdhi.errors import MeshError

Row = Callable[[Session, Plan, Path], Awaitable[dict[str, Any]]]

ROWS: dict[str, Row] = {
    "records": headline.records,
    "lone": headline.lone,
    "reads": headline.reads,
    "paper": paper_design.measure,
    "ledger": layers.ledger,
    "kubo": layers.kubo,
    "hostile": hostile.measure,
}
README, PERFORMANCE = ROOT / "README.md", ROOT / "docs" / "performance.md"
_README_ROWS = ("records", "lone", "reads")
_HEADLINE = [name for name in ROWS if name != "hostile"]
# Memory that is touched for the first time and caches that fill make the first seconds dearer.
_WARM_RATE, _WARM_SECONDS = 400.0, 20.0
_console = Console(highlight=False, soft_wrap=True)


def main(
    row: Annotated[list[str] | None, typer.Option(help=f"Only these of: {', '.join(ROWS)}.")] = None,
    quick: Annotated[bool, typer.Option(help="A smoke of seconds; nothing is written.")] = False,
    repeat: Annotated[
        int, typer.Option(min=1, max=20, help="The table shows the worst of so many runs.")
    ] = 1,
    patients: Annotated[
        int | None, typer.Option(min=2, max=5000, help="Fewer than 5,000 for a trial.")
    ] = None,
    rates: Annotated[str, typer.Option(help="Records/s to try, ascending: 1000,1800.")] = "",
    streams: Annotated[int, typer.Option(min=1, max=64, help="gRPC streams that carry the records.")] = 1,
    home: network.HomeOption = network.DEFAULT_HOME,
    results: Annotated[Path, typer.Option(help="Where measured values go.")] = results_files.RESULTS,
) -> None:
    """Measure rows on the laptop network (started if need be), print the table, write the documents."""
    names = row or _HEADLINE
    if unknown := set(names) - set(ROWS):
        raise typer.BadParameter(f"no row {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    plan = replace(QUICK if quick else Plan(), streams=streams)
    if patients:
        plan = replace(plan, patients=patients)
    if rates:
        plan = replace(plan, rates=tuple(float(rate) for rate in rates.split(",")))
    whole = not (quick or patients or rates)
    folder = results if whole or results != results_files.RESULTS else ROOT / ".tools" / "bench"
    try:
        with network.running(home):
            measured = asyncio.run(_measure(names, plan, repeat, home, folder, quick=quick))
    except MeshError as error:
        _console.print(f"[red]{error.code_name}[/red] {error.reason}")
        raise typer.Exit(1) from error
    for name, runs in measured.items():
        results_files.write(folder, name, runs)
    if whole:
        write_documents(results_files.read(folder))
    shown = {name: {"runs": runs} for name, runs in measured.items()}
    _console.print(readme_table.markdown(_runs(shown)))
    problems = [problem for runs in measured.values() for run in runs for problem in problems_of(run)]
    for problem in problems:
        _console.print(f"[red]✗[/red] {problem}")
    if problems or any(line.met is False for run in _runs(shown) for line in run):
        raise typer.Exit(1)


async def _measure(
    names: list[str], plan: Plan, repeat: int, home: Path, folder: Path, *, quick: bool
) -> dict[str, list[dict[str, Any]]]:
    """The runs of each row; `folder` gets the plots of each row's worst run."""
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    # Reads, so that the clinicians who read are there too.
    people = plan.load(1.0, 2.0, reads=0.5)
    async with Session(home, people, progress.spoken(people)) as session:
        if not quick:
            print("a record about each patient, so that none is the first", file=sys.stderr, flush=True)
            await session.run(plan.load(_WARM_RATE, plan.patients / _WARM_RATE), 0)
        for turn in range(repeat):
            for name in names:
                print(
                    f"{name}{f', {turn + 1} of {repeat}' if repeat > 1 else ''}", file=sys.stderr, flush=True
                )
                if name == "records" and not quick:
                    await _warm(session, plan)
                await idle_network.settled(home)
                before = machine_speed.milliseconds()
                run = await ROWS[name](session, plan, results_files.drawings(name, turn))
                await idle_network.settled(home)
                measured[name].append({**run, "pace_ms": [before, machine_speed.milliseconds()]})
    for name, runs in measured.items():
        results_files.keep_drawings(name, headline.worst_run(runs), folder)
    return measured


async def _warm(session: Session, plan: Plan) -> None:
    """Before each run of the ladder, not only before the first."""
    print(f"{_WARM_SECONDS:.0f} s at the bar's rate, not counted", file=sys.stderr, flush=True)
    await session.run(plan.load(plan.rates[0], _WARM_SECONDS), 0)


def lines(documents: dict[str, dict[str, Any]], run: int) -> list[Line]:
    """The lines of the table in its order, of each row's run number `run`."""
    found: list[Line] = []
    ours: float | None = None
    for name in ROWS:
        if name not in documents or run >= len(documents[name]["runs"]):
            continue
        values = documents[name]["runs"][run]
        match name:
            case "records":
                found += headline.records_lines(values)
                ours = found[0].value
            case "lone":
                found += headline.lone_lines(values)
            case "reads":
                found += headline.reads_lines(values)
            case "paper":
                found += paper_design.lines(values, ours)
            case "ledger":
                found += layers.ledger_lines(values)
            case "kubo":
                found += layers.kubo_lines(values)
            case _:
                found += hostile.lines(values)
    return found


def markdown(documents: dict[str, dict[str, Any]]) -> str:
    """The part of docs/performance.md: the table, CPU of a record, and on what it was measured."""
    parts = [readme_table.markdown(_runs(documents))]
    if "records" in documents:
        at_bar = documents["records"]["runs"][-1]["steps"][0]
        in_all = at_bar["cpu"]["us_per_operation_in_all"]
        parts.append(
            f"CPU of a record at {at_bar['load']['rate']:,.0f}/s, {in_all:,.0f} µs over all processes, "
            f"{at_bar['cpu']['cores_busy']:.2f} cores busy:"
        )
        parts.append(readme_table.cpu_table(at_bar["cpu"]["us_per_operation"]))
    sentences = dict.fromkeys(readme_table.sentence(document) for document in documents.values())
    by_sentence = {
        said: [name for name, document in documents.items() if readme_table.sentence(document) == said]
        for said in sentences
    }
    if len(by_sentence) == 1:
        parts += by_sentence
    else:
        parts += [f"{', '.join(names)}: {said}" for said, names in by_sentence.items()]
    return "\n\n".join(parts)


def short(documents: dict[str, dict[str, Any]]) -> str:
    """The README's part: what a user waits for and gets, beside the bar."""
    shown = {name: document for name, document in documents.items() if name in _README_ROWS}
    return readme_table.short(_runs(shown))


def write_documents(documents: dict[str, dict[str, Any]]) -> None:
    """Put what was measured between the marks of both pages."""
    for file, block in ((PERFORMANCE, markdown(documents)), (README, short(documents))):
        file.write_text(readme_table.rewritten(file.read_text(), block))


def problems_of(run: dict[str, Any]) -> list[str]:
    """What did not verify, in sentences."""
    found = [f"{count} × {problem}" for problem, count in run.get("problems", {}).items()]
    for step in (
        *run.get("steps", ()),
        *run.get("nuisances", ()),
        *([run["bad"]] if "nuisances" in run else ()),
        *([run["first"]] if "first" in run else ()),
    ):
        found += problems_of(step)
    return found


def _runs(documents: dict[str, dict[str, Any]]) -> list[list[Line]]:
    most = max((len(document["runs"]) for document in documents.values()), default=0)
    return [lines(documents, run) for run in range(most)]


if __name__ == "__main__":
    typer.run(main)
