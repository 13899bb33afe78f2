"""`cbmdhi demo`: the patient's story on the running network, each step with what it proved."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from cbmdhi.cli import shared
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.home import command_for
from cbmdhi.cli.shared import HomeOption, JsonOption, console
from cbmdhi.errors import MeshError
from ops.demo.cast import Stage
from ops.demo.story import Story, StoryFailed
from ops.devnet import first_administrator


def demo(
    home: HomeOption = shared.DEFAULT_HOME,
    picture: Annotated[Path | None, typer.Option(help="Keep what is printed as an SVG picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the paper's story on the running network: register, write, refuse, consent, read, revoke, verify.

    The people's wallets are kept unencrypted under HOME/wallets, to go on with.

    Examples:

        cbmdhi demo

        cbmdhi demo --picture demo.svg

        cbmdhi demo --home /tmp/mesh --json
    """
    if picture is not None:
        shared.check_writable(picture)
    console.record = picture is not None
    endpoints = first_administrator.endpoints(home)
    stage = Stage.of(home, endpoints)
    told: list[dict[str, Any]] = []
    try:
        failed = asyncio.run(_tell(stage, told, quiet=as_json))
    except KeyboardInterrupt as error:
        again = [f"typed again it goes on: {command_for(home, 'demo')}"]
        raise Failure("INTERRUPTED", "interrupted", status=Status.INTERRUPTED, next_steps=again) from error
    if as_json:
        print(json.dumps({"ok": not failed, "steps": told, "failure": failed}))
    if failed:
        if not as_json:
            shared.errors.print(f"[red]the story stopped:[/red] {failed}", soft_wrap=True)
            doctor, status = (command_for(home, word) for word in ("doctor", "status"))
            told_next = f"see `{doctor}` and the logs of `{status}`"
            shared.errors.print(told_next, soft_wrap=True, markup=False)
        raise typer.Exit(Status.FAILED)
    if picture is not None:
        picture.write_text(_without_web_fonts(console.export_svg(title="cbmdhi demo")))
    if not as_json:
        _what_next(home, endpoints, told[-1]["example"])


def _without_web_fonts(svg: str) -> str:
    """Rich's SVG, without the fonts that it would have a reader's browser fetch from somewhere else."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


async def _tell(stage: Stage, told: list[dict[str, Any]], *, quiet: bool) -> str:
    async with Story(stage) as story:
        for number, (title, step) in enumerate(story.steps, 1):
            started = time.monotonic()
            if not quiet:
                console.print(f"\n[bold]{number:>2}. {title}[/bold]")
            try:
                proofs = await step()
            except (StoryFailed, MeshError) as error:
                return f"step {number}, {title}: {error}"
            seconds = time.monotonic() - started
            told.append({"step": number, "title": title, "seconds": round(seconds, 3), "proved": proofs})
            if not quiet:
                for proof in proofs:
                    console.print(Padding(Text(proof), (0, 0, 0, 4), expand=False))
                console.print(f"    [dim]{seconds:.1f} s[/dim]")
        told[-1]["example"] = _example(story)
    return ""


def _example(story: Story) -> dict[str, str]:
    receipt = story.told.written[0].receipt.receipt
    return {
        "wallet": story.patient.wallet.folder.name,
        "tx_id": receipt.tx_id,
        "command_id": receipt.command_id,
        "patient": story.patient.wallet.address,
    }


def _what_next(home: Path, endpoints: dict[str, Any], example: dict[str, str]) -> None:
    console.print("\n[bold green]The story is told; the network stays up.[/bold green]\n")
    for name, organisation in endpoints["organisations"].items():
        if "gateway" in organisation:
            gateway = organisation["gateway"]
            console.print(f"  {name:<9} gRPC {gateway['grpc']}   REST {gateway['rest']}")
    console.print(f"  addresses, keys, process ids: {shared.shown(home / 'endpoints.json')}\n\nnext:")
    for line in (
        ("status",),
        ("audit", "-w", example["wallet"]),
        ("inbox", "-w", example["wallet"]),
        ("verify", example["tx_id"], example["command_id"], "-w", example["wallet"]),
        ("list", "-p", example["patient"], "-w", "mercy-engine"),
        ("down",),
    ):
        console.print(f"  {command_for(home, *line)}", soft_wrap=True)
