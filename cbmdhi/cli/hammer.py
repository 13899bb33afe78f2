"""`cbmdhi hammer`: load on a running network, and a check that every receipt stands."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cbmdhi import operator
from cbmdhi.cli import shared
from cbmdhi.cli.shared import HomeOption, JsonOption
from cbmdhi.command.v1 import code_pb2
from cbmdhi.demo.cast import Stage
from cbmdhi.errors import MeshError
from cbmdhi.hammer import cast, check, plan, report, run
from cbmdhi.hammer.plan import Load


def hammer(
    rate: Annotated[
        float, typer.Option(min=0.1, help="Records a second, over all users (open loop).")
    ] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.1, max=plan.LONGEST_RUN_SECONDS, help="How long.")] = 20.0,
    users: Annotated[int, typer.Option(min=1, max=100, help="Streams, each with an author of its own.")] = 4,
    patients: Annotated[int, typer.Option(min=1, max=5000, help="Patients whom the records are about.")] = 20,
    size: Annotated[int, typer.Option(min=200, max=1_000_000, help="Bytes of a record.")] = 1000,
    sample: Annotated[
        int, typer.Option(min=0, help="Records that are fetched and decrypted afterwards.")
    ] = 100,
    output: Annotated[Path | None, typer.Option(help="Write the report as JSON to this file too.")] = None,
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send signed records at a rate; latency counts from when each was due. Then check every receipt.

    Keys, patients and signatures are made before the clock starts. Ends with 1 when a receipt does not stand.
    """
    load = Load(rate, seconds, users, size)
    result = shared.guarded(lambda: asyncio.run(_hammer(load, patients, sample, home)))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print(json.dumps(result))
    else:
        _show(result)
    if not result["stands"]:
        raise typer.Exit(1)


async def _hammer(load: Load, patients: int, sample: int, home: Path) -> dict[str, Any]:
    stage = Stage.of(home, operator.endpoints(home))
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with AsyncExitStack() as clients:
        with Progress(*columns, console=shared.errors) as progress:
            there = progress.add_task("Authors and patients", total=load.users + patients)
            people = await cast.gather(stage, load.users, patients, clients, lambda: progress.advance(there))
            prepared = plan.prepare(load, people.authors, list(people.patients))
            sent = progress.add_task("Receipts", total=load.records)
            outcome = await run.run(load, people.authors, prepared, lambda _: progress.advance(sent))
            if not outcome.receipts:
                raise MeshError(code_pb2.CODE_UNAVAILABLE, f"nothing was committed: {outcome.refused}")
            checking = progress.add_task(f"Checking ({sample} decrypted)", total=1)
            checked = await check.check(people.members, people.patients, prepared, outcome.receipts, sample)
            progress.advance(checking)
    return report.report(load, outcome, checked)


def _show(result: dict[str, Any]) -> None:
    latency = ", ".join(f"{name} {value:g} ms" for name, value in result["latency_ms"].items())
    checked = result["checked"]
    console = shared.console
    console.print(
        f"{result['committed']} of {result['sent']} committed in {result['seconds']:.1f} s: ", end=""
    )
    console.print(f"[bold]{result['records_per_second']:.0f} records/s[/bold]")
    console.print(f"from due to receipt: {latency}")
    console.print(f"the generator's own CPU: {result['generator_cpu_share']:.0%} of a core")
    if result["refused"]:
        console.print(f"refused: {result['refused']}")
    console.print(
        f"checked: {checked['transactions']} transactions valid and endorsed at each member, "
        f"{checked['blobs']} blobs had at the members' gateways, {checked['decrypted']} decrypted"
    )
    for failure in checked["failures"][:10]:
        console.print(f"[red]✗[/red] {failure}", soft_wrap=True)
    console.print(
        "[green]every receipt stands[/green]" if result["stands"] else "[red]not every receipt stands[/red]"
    )
