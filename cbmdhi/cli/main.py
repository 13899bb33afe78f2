"""`cbmdhi`: the command line of users. Commands of operators and testers join it (`lazy.py`)."""

from __future__ import annotations

from typing import Annotated

import typer

import cbmdhi
from cbmdhi.cli.lazy import Command, Root

PEOPLE, RECORDS, TRAIL = "Identities", "Records and consent", "Trail and proof"
_HERE = "cbmdhi.cli"

OWN = (
    Command(
        "wallet",
        f"{_HERE}.wallet:app",
        "Keys that never leave this machine, and what they are registered as.",
        PEOPLE,
    ),
    Command(
        "invite",
        f"{_HERE}.registrations:invite",
        "Prepare the enrolment of staff or an engine (administrators).",
        PEOPLE,
    ),
    Command(
        "review",
        f"{_HERE}.review:app",
        "Registrations that wait for a vote, broken glass, and whom to stop (administrators).",
        PEOPLE,
    ),
    Command(
        "put",
        f"{_HERE}.records:put",
        "Write records: signed here, encrypted, replicated, committed.",
        RECORDS,
    ),
    Command(
        "resend",
        f"{_HERE}.resend:resend",
        "Send again what was signed and whose outcome was not known.",
        RECORDS,
    ),
    Command(
        "get",
        f"{_HERE}.records:get",
        "Read a record: the decision is committed first, then it is decrypted here.",
        RECORDS,
    ),
    Command("list", f"{_HERE}.records:list_records", "List the records that the wallet may search.", RECORDS),
    Command("consent", f"{_HERE}.consent:app", "Who may see what, for what, until when.", RECORDS),
    Command(
        "emergency",
        f"{_HERE}.emergency:app",
        "Break the glass (clinicians), and see what was opened without a majority (privacy officers).",
        RECORDS,
    ),
    Command(
        "audit",
        f"{_HERE}.trail:audit",
        "Everything done or refused about the wallet's own data: who, when, why, under which consent.",
        TRAIL,
    ),
    Command("inbox", f"{_HERE}.trail:inbox", "What happened, newest first.", TRAIL),
    Command(
        "verify",
        f"{_HERE}.verify:verify",
        "Check a receipt against the members' peers: endorsements, author, verdict, stored bytes.",
        TRAIL,
    ),
    Command("docs", f"{_HERE}.reference:docs", "Print the reference of every command, as Markdown.", TRAIL),
)


class _Cbmdhi(Root):
    own = OWN


app = typer.Typer(
    cls=_Cbmdhi,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="CBMDHI: hospitals share records through a consortium blockchain; the patient holds the keys.",
)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """CBMDHI: hospitals share records through a consortium blockchain; the patient holds the keys.

    Each command says in its own help how it is typed, with examples: cbmdhi put --help.
    """
    if show:
        print(cbmdhi.__version__)
        raise typer.Exit


if __name__ == "__main__":
    app()
