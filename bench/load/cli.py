"""`cbmdhi hammer`: load on a running network, and a check that every receipt stands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.load import display, outputs, plots, report
from bench.load.plan import LONGEST_RUN_SECONDS, MOST_PATIENTS, Load
from bench.load.session import Ran, Session
from cbmdhi.cli import shared
from cbmdhi.cli.exits import Status
from cbmdhi.cli.shared import HomeOption, JsonOption


def hammer(
    rate: Annotated[
        float, typer.Option(min=0.1, max=100_000, help="Records and reads a second (open loop).")
    ] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.1, max=LONGEST_RUN_SECONDS, help="How long.")] = 20.0,
    users: Annotated[int, typer.Option(min=1, max=100, help="Authors, each with a key of their own.")] = 20,
    streams: Annotated[int, typer.Option(min=1, max=64, help="gRPC streams that carry the records.")] = 1,
    patients: Annotated[
        int, typer.Option(min=1, max=MOST_PATIENTS, help="Patients whom the records are about.")
    ] = 20,
    size: Annotated[int, typer.Option(min=300, max=1_000_000, help="Bytes of a record.")] = 1000,
    reads: Annotated[float, typer.Option(min=0, max=1, help="Share of authorised reads.")] = 0.0,
    chart: Annotated[
        int, typer.Option(min=1, max=100, help="Reads in one call, as of a chart; fewer at a low rate.")
    ] = 10,
    bad: Annotated[float, typer.Option(min=0, max=0.5, help="Share of the records that are bad.")] = 0.0,
    sample: Annotated[int, typer.Option(min=0, help="Records decrypted by their patients afterwards.")] = 100,
    output: Annotated[Path | None, typer.Option(help="Write the report as JSON to this file too.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a line for each second to this file.")] = None,
    records_csv: Annotated[
        Path | None, typer.Option(help="Write a line for each record and read to this file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the run's plots (PNG) into this folder.")] = None,
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send signed records at a rate, then check every receipt.

    Latency counts from when each was due. Keys, patients and signatures are made before the clock starts; up
    to 5,000 patients are registered through the mesh once and kept. Ends with 1 when anything is lost or does
    not stand.

    Examples:

        cbmdhi hammer --rate 200 --seconds 30

        cbmdhi hammer --rate 50 --reads 0.5 --bad 0.1 --plot plots --json
    """
    load = Load(rate, seconds, users, streams, patients, size, reads, bad, chart)
    for file in (output, csv, records_csv):
        if file is not None:
            shared.check_writable(file)
    if plot is not None:
        plot.mkdir(parents=True, exist_ok=True)
        shared.check_writable(plot / "plot.png")
    ran = asyncio.run(_hammer(load, sample, home))
    result = report.report(ran)
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")
    if csv is not None:
        outputs.write_seconds(csv, ran.tally)
    if records_csv is not None:
        outputs.write_records(records_csv, ran.tally)
    drawn = plots.draw(ran, plot) if plot is not None else []
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, drawn)
    if not result["stands"]:
        raise typer.Exit(Status.FAILED)


async def _hammer(load: Load, sample: int, home: Path) -> Ran:
    with display.Display(shared.errors, load) as shown:
        async with Session(home, load, shown.show) as session:
            return await session.run(load, sample)


def _show(result: dict[str, Any], drawn: list[Path]) -> None:
    console = shared.console
    for what, rate, latency in (
        ("committed", "records_per_second", "latency_ms"),
        ("read", "reads_per_second", "read_latency_ms"),
    ):
        if result[what]:
            taken = ", ".join(f"{name} {value:g} ms" for name, value in result[latency].items())
            console.print(
                f"{result[what]:,} {what} in {result['seconds']:.1f} s: "
                f"[bold]{result[rate]:,.0f}/s[/bold], from due to done: {taken}"
            )
    if result["bad"]:
        console.print(f"bad records: {result['bad']:,}, each answered as it deserves unless told below")
    if result["refused"]:
        console.print(f"refused or lost: {result['refused']}")
    for reason, count in result["slowed"].items():
        console.print(f"[yellow]![/yellow] {count:,} × not read for a while: {reason}")
    console.print(_cpu(result["cpu"]))
    checked = result["checked"]
    console.print(
        f"checked at both members: {checked['transactions']:,} transactions, "
        f"{checked['verdicts']:,} verdicts, {checked['blobs']:,} blobs; {checked['decrypted']:,} decrypted"
    )
    for problem, count in list(result["problems"].items())[:10]:
        console.print(f"[red]✗[/red] {count:,} × {problem}", soft_wrap=True)
    if drawn:
        console.print(f"plots: {', '.join(str(shared.shown(file)) for file in drawn)}", soft_wrap=True)
    console.print(
        "[green]every receipt stands[/green]" if result["stands"] else "[red]not everything stands[/red]"
    )


def _cpu(cpu: dict[str, Any]) -> str:
    most = ", ".join(f"{name} {value:.0f}" for name, value in list(cpu["us_per_operation"].items())[:6])
    return (
        f"CPU: {cpu['us_per_operation_in_all']:,.0f} µs for each, {cpu['cores_busy']:.2f} cores busy "
        f"(others on this machine: {cpu['others_share']:.0%}); most: {most}"
    )
