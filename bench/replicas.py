"""`make bench-replicas`: records a second and their cost with 1, 2 and 4 pairs of gateway and storage.

What can be shown depends on the machine. With cores to spare each of these processes is kept to one of its
own (as `taskset` does) and the rate rises with them. Where both members share two cores nothing can rise;
what shows is whether the cost of a record stays flat, so that a replica adds no work of its own.

The storages share the member's folder and its Kubo node (ADR 0011).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psutil
import tomli_w
import typer

from bench import extra_processes, idle_network, network, progress, results_files
from bench.environment import ROOT
from bench.headline import Plan
from bench.load import plots, report
from bench.load.plan import Load
from bench.load.session import Session
from cbmdhi.client import Client
from cbmdhi.wallet import Wallet
from ops.devnet import health, processes

_MEMBER = "mercy"
_TITLE = "Cost of a record with more gateways and storages"
_ADDRESSES = {
    "gateway": ("listen_address", "first_contact_address", "rest_address", "metrics_address"),
    "storage": ("listen_address", "metrics_address"),
}
_READY_SECONDS = 60.0
_CORES_TO_SPARE = 8
# Of the hundred ports that a network reserves the last thirty are a third member's.
FIRST_SPARE_PORT = 70
_FLOOD_RATE = 50_000.0


@dataclass
class Spare:
    """Ports and cores that nobody has yet."""

    next_port: int
    next_core: int = 0

    def address(self) -> str:
        self.next_port += 1
        return f"127.0.0.1:{self.next_port - 1}"

    def core(self) -> int | None:
        """None where there are so few that keeping to one says nothing."""
        cores = psutil.cpu_count() or 1
        if cores < _CORES_TO_SPARE:
            return None
        self.next_core += 1
        return (self.next_core - 1) % cores


def main(
    counts: Annotated[str, typer.Option(help="How many gateways, each with a storage, to try.")] = "1,2,4",
    records: Annotated[int, typer.Option(min=100, help="Records with each.")] = 20_000,
    patients: Annotated[int, typer.Option(min=2, max=5000, help="Whom the records are about.")] = 2_000,
    home: network.HomeOption = network.DEFAULT_HOME,
    results: Annotated[Path, typer.Option(help="Where figures and values go.")] = results_files.RESULTS,
) -> None:
    """Send as fast as the mesh takes it, with so many gateways; verify; show rate and cost of a record."""
    plan = replace(Plan(), patients=patients)
    wanted = [int(count) for count in counts.split(",")]
    with network.running(home) as running, ExitStack() as started:
        document = running.endpoints()
        services = document["organisations"][_MEMBER]["services"]
        configs = {service: Path(services[service]["config"]) for service in _ADDRESSES}
        spare = Spare(document["base_port"] + FIRST_SPARE_PORT)
        more: list[str] = []
        for number in range(2, max(wanted) + 1):
            storage = replica(home, "storage", configs["storage"], number, spare)
            its_storage = {"storage_address": started.enter_context(storage)}
            gateway = replica(home, "gateway", configs["gateway"], number, spare, its_storage)
            more.append(started.enter_context(gateway))
        points = asyncio.run(_measure(home, plan, wanted, records, more))
    results_files.write(results, "replicas", points)
    _draw(points, results)
    for point in points:
        cost = point["cpu"]["us_per_operation_in_all"]
        typer.echo(
            f"{point['replicas']} of each: {point['records_per_second']:,.0f}/s, {cost:,.0f} µs a record, "
            f"{point['cpu']['cores_busy']:.2f} cores busy"
        )
    if not all(point["stands"] for point in points):
        typer.echo("not everything stands")
        raise typer.Exit(1)


async def _measure(
    home: Path, plan: Plan, wanted: list[int], records: int, more: list[str]
) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    people = Load(1.0, 1.0, plan.users, max(wanted), plan.patients)
    async with Session(home, people, progress.spoken(people)) as session, AsyncExitStack() as clients:
        own = list(session.cast.carriers)
        away = [
            await clients.enter_async_context(Client(pointed(carrier.wallet, gateway), _MEMBER))
            for carrier, gateway in zip(own[1:], more, strict=False)
        ]
        session.cast.carriers[:] = [own[0], *away]
        warm = Load(_FLOOD_RATE, records / 5 / _FLOOD_RATE, plan.users, max(wanted), plan.patients)
        await session.run(warm, 0)
        for count in wanted:
            await idle_network.settled(home)
            load = Load(_FLOOD_RATE, records / _FLOOD_RATE, plan.users, count, plan.patients)
            points.append({"replicas": count, **report.report(await session.run(load, 100))})
    return points


def pointed(wallet: Wallet, grpc: str) -> Wallet:
    """The wallet, with another gateway of the same member in its consortium."""
    member = wallet.consortium.member_named(_MEMBER)
    moved = replace(member, gateway=replace(member.gateway, grpc=grpc))
    members = {**wallet.consortium.members, member.msp_id: moved}
    return replace(wallet, consortium=replace(wallet.consortium, members=members))


@contextmanager
def replica(
    home: Path,
    service: str,
    config: Path,
    number: int,
    spare: Spare,
    changed: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Another process of a member's service, with its own ports, ended at the end: its gRPC address."""
    settings = tomllib.loads(config.read_text())
    addresses = {name: spare.address() for name in _ADDRESSES[service]}
    if "rest_address" in addresses:
        addresses["public_origin"] = f"https://{addresses['rest_address']}"
    folder = config.parent.with_name(f"{service}-{number}")
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / "config.toml"
    own.write_text(tomli_w.dumps({**settings, **addresses, **(changed or {})}))
    name = f"{_MEMBER}-{service}-{number}"
    marks = processes.marks(home.resolve(), name)
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}", "--config", own],
            cwd=ROOT,
            env={**psutil.Process().environ(), **marks},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        core = spare.core()
        if core is not None:
            psutil.Process(started.pid).cpu_affinity([core])
        ready = partial(_is_ready, addresses["metrics_address"])
        extra_processes.wait_ready(name, ready, started, folder / "log", _READY_SECONDS)
        yield addresses["listen_address"]
    finally:
        extra_processes.end(started)


def _is_ready(metrics_address: str) -> bool:
    return health.get(metrics_address, "/readyz")[0] == 200


def _draw(points: list[dict[str, Any]], folder: Path) -> None:
    at = [f"{point['replicas']}" for point in points]
    subtitle = f"{points[0]['sent']:,} records of 1 kB, as fast as the mesh takes them"
    with plots.figure(folder / "replicas.png", _TITLE, subtitle) as axes:
        costs = [point["cpu"]["us_per_operation_in_all"] for point in points]
        drawn = axes.bar(at, costs, color=plots.BLUE, width=0.5)
        rates = [
            f"{cost:,.0f} µs\n{point['records_per_second']:,.0f}/s"
            for cost, point in zip(costs, points, strict=True)
        ]
        axes.bar_label(drawn, labels=rates, padding=4, fontsize=9, color=plots.INK)
        axes.grid(False, axis="x")
        axes.margins(y=0.2)
        axes.set_xlabel("gateways of one member, each with a storage")
        axes.set_ylabel("CPU of all processes for a record, µs")


if __name__ == "__main__":
    typer.run(main)
