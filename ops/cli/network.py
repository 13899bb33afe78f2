"""`cbmdhi up`, `down`, `status`, `doctor`, `clean`: the laptop network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cbmdhi.cli.exits import Failure, Status
from ops.devnet import DevnetError, Network, doctor, status
from ops.devnet.layout import command_for, home_at
from ops.devnet.network import Started
from ops.devnet.progress import Shown

T = TypeVar("T")

_console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)

_Home = Annotated[
    Path | None,
    typer.Option("--home", envvar="CBMDHI_HOME", help="Folder of the network.", show_default=".devnet"),
]
_BasePort = Annotated[
    int | None,
    typer.Option(
        "--base-port",
        envvar="CBMDHI_BASE_PORT",
        help="First of its block of ports, decided at the first start.",
        show_default="a free block",
    ),
]
_Members = Annotated[
    int | None,
    typer.Option(
        "--members",
        help="Members of the consortium, 2 or 3, decided at the first start. Of three, any one may be away.",
        show_default="2, or as many as it has",
    ),
]
_Traced = Annotated[
    bool | None,
    typer.Option(
        "--traced/--not-traced",
        help="Every program sends its spans to a collector of its member; see `cbmdhi trace`.",
        show_default="as it is",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def up(
    home: _Home = None,
    base_port: _BasePort = None,
    members: _Members = None,
    as_json: _Json = False,
    traced: _Traced = None,
) -> None:
    """Start the laptop network; a half-dead one is mended.

    Its members are mercy, lakeside and, of three, northgate; all of them order.

    Examples:

        cbmdhi up

        cbmdhi up --home /tmp/mesh --members 3 --traced
    """
    with Shown(_errors) as progress:
        network, started = guarded_network(lambda: _up(home, base_port, members, progress, traced), home)
    endpoints = network.endpoints()
    if as_json:
        _print_json(
            {
                "first_time": started.first_time,
                "already_running": started.already_running,
                "mended": list(started.mended),
                "seconds": round(started.seconds, 1),
                "endpoints_file": str(network.files.endpoints_file),
            }
        )
        return
    _console.print(_sentence(started), soft_wrap=True)
    for name, organisation in endpoints["organisations"].items():
        if "gateway" in organisation:
            gateway = organisation["gateway"]
            _console.print(f"  {name:<9} REST {gateway['rest']}   gRPC {gateway['grpc']}", soft_wrap=True)
    _console.print(f"  all addresses: {network.files.endpoints_file}", soft_wrap=True)
    _console.print("Next:")
    for word in ("status", "demo", "down"):
        _console.print(f"  {network.files.command(word)}", soft_wrap=True, markup=False)


def down(home: _Home = None, as_json: _Json = False) -> None:
    """Stop the network. Its state stays; `cbmdhi up` goes on from there.

    Examples:

        cbmdhi down

        cbmdhi down --home /tmp/mesh --json
    """
    with Shown(_errors) as progress:
        stopped = guarded_network(lambda: Network(home, progress=progress).down(), home)
    if as_json:
        _print_json({"stopped": stopped})
    else:
        processes = "1 process" if stopped == 1 else f"{stopped} processes"
        _console.print(f"Stopped {processes}." if stopped else "The network is not running.")


def clean(home: _Home = None, as_json: _Json = False) -> None:
    """Stop the network and forget its state: channel, records, keys, wallets.

    Examples:

        cbmdhi clean

        cbmdhi clean --home /tmp/mesh --json
    """
    with Shown(_errors) as progress:
        removed = guarded_network(lambda: Network(home, progress=progress).clean(), home)
    if as_json:
        _print_json({"removed": removed})
    else:
        _console.print("The network's state is gone." if removed else "There was no network.")


def show_status(home: _Home = None, as_json: _Json = False) -> None:
    """Every program, the channel, the projections, Kubo and NATS. Ends with 1 when not all is green.

    Examples:

        cbmdhi status

        cbmdhi status --home /tmp/mesh --json
    """
    found = guarded_network(lambda: status.of(Network(home)), home)
    if as_json:
        _print_json(found.document())
    else:
        _show_status(found)
    raise typer.Exit(Status.DONE if found.green else Status.FAILED)


def show_doctor(home: _Home = None, as_json: _Json = False) -> None:
    """Say what is wrong with this machine or the network, and how to mend it. Ends with 1 when something is.

    Examples:

        cbmdhi doctor

        cbmdhi doctor --home /tmp/mesh --json
    """
    findings = guarded_network(lambda: doctor.examine(Network(home)), home)
    bad = any(finding.grade is doctor.Grade.BAD for finding in findings)
    if as_json:
        _print_json(
            {
                "well": not bad,
                "findings": [
                    {
                        "check": finding.check,
                        "grade": finding.grade.value,
                        "says": finding.says,
                        "mend": finding.mend,
                    }
                    for finding in findings
                ],
            }
        )
    else:
        _show_findings(findings)
    raise typer.Exit(Status.FAILED if bad else Status.DONE)


def _up(
    home: Path | None, base_port: int | None, members: int | None, progress: Shown, traced: bool | None
) -> tuple[Network, Started]:
    network = Network(home, base_port, progress, members)
    return network, network.up(traced=traced)


def _sentence(started: Started) -> str:
    seconds = f"{started.seconds:.0f} s"
    if started.first_time:
        return f"The network is up ({seconds}; it was made for the first time)."
    if not started.already_running:
        return f"The network is up ({seconds})."
    if started.mended:
        return f"The network ran already; mended in {seconds}: {', '.join(started.mended)}."
    return "The network runs already, and everything answers."


def _show_status(found: status.NetworkStatus) -> None:
    if found.programs:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("program", "state", "pid", "uptime", "address", "health"):
            table.add_column(column, justify="right" if column in ("pid", "uptime") else "left")
        for program in found.programs:
            well = program.healthy
            table.add_row(
                program.name,
                program.state.lower(),
                str(program.pid or ""),
                _duration(program.uptime_seconds) if program.pid else "",
                program.address,
                "[green]ready[/]" if well else f"[red]{escape(program.reason or 'not ready')}[/]",
            )
        _console.print(table)
        members = Table(box=None, pad_edge=False, header_style="bold")
        for column in (
            "member",
            "blocks",
            "projection lag",
            "event lag",
            "IPFS peers",
            "stream",
            "consumers",
        ):
            members.add_column(column, justify="left" if column == "member" else "right")
        for member in found.members:
            members.add_row(
                member.name,
                _number(member.channel_height),
                _number(member.projection_lag_blocks),
                _number(member.publication_lag_blocks),
                _number(member.ipfs_peers),
                _number(member.stream_messages),
                _number(member.stream_consumers),
            )
        _console.print()
        _console.print(members)
        _console.print(f"ordering  {_number(found.orderer_height)} blocks\n")
    if found.green:
        _console.print("[green]●[/] all green")
    for problem in found.problems:
        _console.print(f"[red]●[/] {escape(problem)}", soft_wrap=True)
    if found.programs and found.problems:
        doctor_says = command_for(Path(found.home), "doctor")
        _console.print(f"`{doctor_says}` says how to mend it.", soft_wrap=True, markup=False)


def _show_findings(findings: Sequence[doctor.Finding]) -> None:
    marks = {doctor.Grade.OK: "[green]✓[/]", doctor.Grade.WARN: "[yellow]![/]", doctor.Grade.BAD: "[red]✗[/]"}
    for finding in findings:
        _console.print(f"{marks[finding.grade]} {finding.check}: {escape(finding.says)}", soft_wrap=True)
        if finding.mend:
            _console.print(f"    → {escape(finding.mend)}", soft_wrap=True)
    if all(finding.grade is doctor.Grade.OK for finding in findings):
        _console.print("Nothing is wrong.")


def guarded_network(work: Callable[[], T], home: Path | None = None) -> T:
    """Do the work; raises Failure, in a sentence, with what to do.

    home  of the network that it is about
    """
    try:
        return work()
    except DevnetError as exc:
        raise Failure("FAILED", exc.problem, next_steps=[exc.remedy] if exc.remedy else []) from exc
    except OSError as exc:
        remedy = f"`{home_at(home).command('doctor')}` looks at disk space, limits and ports."
        raise Failure("FAILED", _told(exc), next_steps=[remedy]) from exc
    except KeyboardInterrupt as exc:
        up, down = (home_at(home).command(word) for word in ("up", "down"))
        remedy = f"`{up}` goes on or starts afresh; `{down}` stops what was started."
        raise Failure("INTERRUPTED", "Interrupted.", status=Status.INTERRUPTED, next_steps=[remedy]) from exc


def _told(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}."


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h"
