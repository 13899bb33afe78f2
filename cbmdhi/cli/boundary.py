"""The one place where what went wrong becomes words, or JSON, and an exit status. No traceback leaves it."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from cbmdhi.cli import printable
from cbmdhi.cli.exits import Failure, Status

TRACEBACK = "CBMDHI_TRACEBACK"

# A disk that takes no more, of which only the output is told without a name.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# Typer's own names for them are private.
_Usage, _Clicked = typer.BadParameter.__mro__[1:3]


def run(work: Callable[[], Any], words: Sequence[str]) -> NoReturn:
    """Do the work of the command line `words` and end the program with its status."""
    try:
        done = work()
        sys.stdout.flush()
    except SystemExit:
        raise
    except BrokenPipeError:
        _forget_output()
        sys.exit(Status.PIPE_CLOSED)
    except BaseException as error:  # noqa: BLE001 - nothing that went wrong leaves as a traceback
        failure = failure_of(error)
        try:
            tell(failure, as_json=_wants_json(words))
        except OSError:
            _forget_output()
        sys.exit(failure.status)
    sys.exit(done if isinstance(done, int) else Status.DONE)


def failure_of(error: BaseException) -> Failure:
    """What a person or a machine is told about an exception."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, _Clicked):
        return _mistyped(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort | EOFError):
        return Failure("INTERRUPTED", "interrupted", status=Status.INTERRUPTED)
    if isinstance(error, OSError) and error.filename is not None:
        reason = f"{error.filename}: {error.strerror or error}"
        return Failure("FILE", reason, status=Status.MISTYPED, next_steps=_of_file(error))
    if isinstance(error, OSError) and error.errno in _FULL:
        looks = ["what was asked for may be done all the same: look before it is typed again"]
        return Failure("FILE", f"the output cannot be written: {error.strerror}", next_steps=looks)
    return _of_mesh(error) or _fault(error)


def tell(failure: Failure, *, as_json: bool) -> None:
    """Say it: words on standard error, JSON on standard output."""
    if as_json:
        print(json.dumps(failure.for_machines()), flush=True)
    from rich.console import Console
    from rich.text import Text

    # Without a terminal nobody knows a width, and a line that is broken cannot be searched for.
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    where = f" (at {failure.path})" if failure.path else ""
    # What a gateway gives as its reason is not to pass for what this program says.
    reason = printable.line(f" {failure.reason}{where}")
    console.print(Text.assemble((printable.line(failure.code), "red"), reason))
    for step in failure.next_steps:
        console.print(Text(printable.lines(step)))


def _mistyped(error: Any) -> Failure:
    context: typer.Context | None = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "cbmdhi"
    # Without a word typed, the help is shown already.
    reason = error.format_message() or "a command is missing"
    shows = [f"`{path} --help` shows how it is typed"]
    return Failure("USAGE", reason, status=Status.MISTYPED, next_steps=shows)


def _of_file(error: OSError) -> list[str]:
    if isinstance(error, FileNotFoundError):
        return ["check its name; a relative one counts from the folder that you are in"]
    if isinstance(error, PermissionError):
        return [f"whoever runs this (user id {os.getuid()}) may not do that there: `ls -ld` shows who may"]
    return []


def _of_mesh(error: BaseException) -> Failure | None:
    """An error of the mesh; None for anything else. A run without one does not wait for the import."""
    from cbmdhi.command.v1 import code_pb2
    from cbmdhi.errors import MeshError, Misuse, UnknownOutcome, WalletError

    if not isinstance(error, MeshError):
        return None
    if isinstance(error, Misuse | WalletError) and isinstance(file := error.__cause__, OSError):
        return Failure("FILE", error.reason, status=Status.MISTYPED, next_steps=_of_file(file))
    if isinstance(error, Misuse | WalletError):
        status = Status.MISTYPED
    elif isinstance(error, UnknownOutcome):
        status = Status.UNKNOWN
    elif error.code in (
        code_pb2.CODE_UNAVAILABLE,
        code_pb2.CODE_DEADLINE_EXCEEDED,
        code_pb2.CODE_RESOURCE_EXHAUSTED,
    ):
        status = Status.NOT_NOW
    else:
        status = Status.FAILED
    return Failure(error.code_name, error.reason, status=status, path=error.path)


def _fault(error: BaseException) -> Failure:
    """A fault of ours: where it is, for whoever mends it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f", at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    return Failure(
        "INTERNAL",
        f"a fault of this program: {type(error).__name__}: {error}{where}",
        status=Status.FAULT,
        next_steps=[
            f"please report it; with {TRACEBACK}=1 in the environment the same command shows all of it"
        ],
    )


def _wants_json(words: Sequence[str]) -> bool:
    options = list(words)
    return "--json" in (options[: options.index("--")] if "--" in options else options)


def _forget_output() -> None:
    """Nobody reads standard output any more: what Python would still write at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
