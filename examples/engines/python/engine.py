"""An integration engine that speaks to a member's gateway over gRPC: its keys, its registration, its session,
signed records, and receipts that it checks. It uses the generated messages and none of CBMDHI's own code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from join import join
from keys import Refused, Unanswered, make_keys
from send import deliver, send
from session import Engine, detail_of, said
from vectors import check_vectors

CODES = "docs/integrate/error-codes.md"


def main() -> int:
    """The exit code: 0 done and proven, 1 refused or not done, 2 usage, 3 sent without an answer yet."""
    parser = argparse.ArgumentParser(prog="engine", description=__doc__)
    parser.add_argument(
        "--renew-before",
        type=int,
        default=30,
        metavar="SECONDS",
        help="renew the session when it ends so soon",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, what: str, *arguments: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what)
        for argument in arguments:
            made.add_argument(argument)
        return made

    command("keys", "make keys, print the address that is invited", "state", "consortium", "member")
    command("join", "enrol, register, wait until the administrators approve", "state", "secret")
    sending = command("send", "write each FILE, a FHIR R4 resource in JSON", "state", "patient", "category")
    sending.add_argument("file", nargs="+", type=Path)
    command("resend", "send again, as it was signed, what has no answer yet", "state")
    command("check-vectors", "check this client by tests/vectors", "folder")
    asked = parser.parse_args()
    try:
        match asked.command:
            case "keys":
                make_keys(Path(asked.state), Path(asked.consortium), asked.member)
            case "check-vectors":
                check_vectors(Path(asked.folder))
            case _:
                with Engine(Path(asked.state), asked.renew_before) as engine:
                    match asked.command:
                        case "join":
                            join(engine, asked.secret)
                        case "send":
                            send(engine, asked.patient, asked.category, asked.file)
                        case "resend":
                            deliver(engine)
                    return end(engine)
    except grpc.RpcError as error:
        print(said(detail_of(error)), file=sys.stderr)
        return 1
    except (OSError, Refused) as error:
        print(error, file=sys.stderr)
        return 3 if isinstance(error, Unanswered) else 1
    return 0


def end(engine: Engine) -> int:
    """0, or 1 when records were refused. What was refused, and what to do about it."""
    for why in engine.refusals:
        print("refused:", why, file=sys.stderr)
    if not engine.refusals:
        return 0
    print(
        f"What each code asks you to do: {CODES}. What was signed is kept in",
        engine.state / "refused",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
