"""`cbmdhi review`: what administrators and privacy officers decide about others."""

from __future__ import annotations

import typer

from cbmdhi.cli import oversight, registrations

app = typer.Typer(
    no_args_is_help=True,
    help="Registrations that wait for a vote, broken glass, and whom to stop (administrators).",
)
app.command("list")(registrations.list_reviews)
for command in (
    registrations.show,
    registrations.approve,
    registrations.reject,
    registrations.withdraw,
    oversight.glass,
    oversight.reason,
    oversight.suspend,
    oversight.reinstate,
):
    app.command()(command)
