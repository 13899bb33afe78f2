"""`cbmdhi backup`, `restore`, `recovery-key`: what an operator does before and after a disaster."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ops.backup import member, recovery_key
from ops.cli.network import guarded_network
from ops.devnet import Network
from ops.devnet.layout import home_at
from ops.devnet.progress import Shown

_console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)
_MIB = 1 << 20
_EVERY_SECONDS = 5.0
_ORDERER = {
    member.KEPT: "was there, and goes on as it is",
    member.LOST: "is new, and joins the channel when the network is started",
    member.REJOINED: "is new, and has joined the channel",
}

_Home = Annotated[
    Path | None,
    typer.Option("--home", envvar="CBMDHI_HOME", help="Folder of the network.", show_default=".devnet"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def backup(
    organisation: Annotated[str, typer.Argument(help="A member, or ordering.")],
    destination: Annotated[
        str, typer.Argument(help="A new file, s3://BUCKET/NAME, or either with / at its end: named by time.")
    ],
    to: Annotated[
        list[Path],
        typer.Option("--to", help="FILE.pub, FILE.sign beside it; several: each opens alone."),
    ],
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """Back up a member while it runs: CAs, peer, Kubo, NATS, vault, projections, inbox, keys.

    Its programs stand still for a moment, so that all is of one instant. What lies at the destination is
    encrypted, and opens with the private recovery key alone. An orderer's votes and blocks are in no backup.

    An S3-compatible store is told as to AWS's own programs: AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION.

    Examples:

        cbmdhi backup mercy /var/backups/ --to mercy.key.pub

        cbmdhi backup mercy s3://backups/mercy/ --to mercy.key.pub --json
    """
    with Shown(_errors) as progress:
        counted = _Counter(progress)
        taken = guarded_network(
            lambda: member.take(Network(home), organisation, destination, to, progress, counted), home
        )
    if as_json:
        _print_json(asdict(taken))
        return
    _console.print(
        f"{escape(taken.place)}: {taken.organisation} of {taken.taken[:19]} UTC, {taken.holds.files:,} files,"
        f" {taken.holds.size / _MIB:,.1f} MiB."
        f" Its programs stood still for {taken.frozen_seconds * 1000:.0f} ms.",
        soft_wrap=True,
    )
    _console.print(
        f"Sealed to {', '.join(taken.sealed_to)}. Try it: "
        f"{home_at(home).command('restore', taken.place, '--key', 'KEY', '--check')}",
        soft_wrap=True,
    )


def restore(
    source: Annotated[str, typer.Argument(help="A backup's file, or s3://BUCKET/NAME.")],
    key: Annotated[Path, typer.Option("--key", help="Private recovery key.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Move aside the member's state that is there; else it is kept.")
    ] = False,
    only_check: Annotated[bool, typer.Option("--check", help="Check every byte, change nothing.")] = False,
    home: _Home = None,
    as_json: _Json = False,
) -> None:
    """Give a member back as it was. A backup that is cut, changed, foreign or not the member's is refused.

    What the channel committed after the backup, the peer fetches from the orderer. Contents written after
    it lie at the other member; reading one gives this member its replica back. The member's orderer stays as
    it is, if it is there; else it joins the channel anew, which the other orderers' organisations sign.

    An S3-compatible store is told as to AWS's own programs: AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION.

    Examples:

        cbmdhi restore /var/backups/mercy-20261122T213000Z.cbmdhi-backup --key mercy.key --check

        cbmdhi restore s3://backups/mercy/mercy-20261122T213000Z.cbmdhi-backup --key mercy.key --replace
    """
    with Shown(_errors) as progress:
        counted = _Counter(progress)

        def work() -> member.Restored:
            if only_check:
                return member.check(source, key, progress, counted)
            return member.restore(Network(home), source, key, progress, counted, replace=replace)

        done = guarded_network(work, home)
    if as_json:
        document = asdict(done)
        document["replaced"] = str(done.replaced) if done.replaced else None
        _print_json({**document, "checked_only": only_check})
        return
    about = done.about
    what = f"{about.organisation} of {about.taken[:19]} UTC, {done.holds.files:,} files"
    if only_check:
        _console.print(f"The backup is whole: {what}, {done.holds.size / _MIB:,.1f} MiB.", soft_wrap=True)
        return
    _console.print(
        f"Restored: {what}." + (" Its programs are ready." if done.started else ""), soft_wrap=True
    )
    if done.replaced:
        _console.print(f"What was there lies in {done.replaced}; remove it when all is well.", soft_wrap=True)
    if done.orderer:
        _console.print(f"Its orderer {_ORDERER[done.orderer]}.", soft_wrap=True)
    if not done.started:
        _console.print(f"Next: {home_at(home).command('up')}", soft_wrap=True, markup=False)


def make_key(
    file: Annotated[Path, typer.Argument(help="For the private key; FILE.pub and FILE.sign go beside it.")],
    as_json: _Json = False,
) -> None:
    """Make recovery keys: backups are made with them.

    Backups are made with FILE.pub and FILE.sign; keep FILE, the private one, away.

    FILE says by whose signature a backup is taken back: with FILE.pub alone nobody makes one that is.

    Examples:

        cbmdhi recovery-key /media/safe/mercy.key

        cbmdhi recovery-key mercy.key --json
    """
    if not file.name:
        raise typer.BadParameter("name a file, such as mercy.key", param_hint="FILE")
    public_file = guarded_network(lambda: recovery_key.make(file))
    fingerprint = recovery_key.recipient(public_file).fingerprint
    if as_json:
        _print_json(
            {
                "private": str(file),
                "public": str(public_file),
                "signing": str(recovery_key.signing_file(public_file)),
                "fingerprint": fingerprint,
            }
        )
        return
    signing = recovery_key.signing_file(public_file)
    _console.print(f"{public_file} ({fingerprint}) and {signing}: where backups are made.", soft_wrap=True)
    _console.print(f"{file}: off this machine, and twice. Without it no backup opens.", soft_wrap=True)


class _Counter:
    """Tells how far it is, every few seconds."""

    def __init__(self, progress: Shown) -> None:
        self._progress = progress
        self._bytes = 0
        self._next = time.monotonic() + _EVERY_SECONDS

    def __call__(self, size: int) -> None:
        self._bytes += size
        if time.monotonic() >= self._next:
            self._progress.note(f"     {self._bytes / _MIB:,.0f} MiB so far")
            self._next = time.monotonic() + _EVERY_SECONDS


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))
