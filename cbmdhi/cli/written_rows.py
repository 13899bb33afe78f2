"""What became of the records that were put, as a person or a machine is told it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cbmdhi.cli import boundary, file_writes, hints, printable, shared
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.shared import console
from cbmdhi.client.records import Written
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import name_of


@contextmanager
def told_when_cut(
    heard: Sequence[file_writes.Result], asked: int, typist: hints.Typist, *, as_json: bool
) -> Iterator[None]:
    """What became of those that have a result, when Ctrl-C comes before all have one, or are printed."""
    try:
        yield
    except (KeyboardInterrupt, Failure) as stopped:
        cut = boundary.failure_of(stopped)
        if cut.status is not Status.INTERRUPTED:
            raise
        rows = [row_of(entry, "", typist) for entry, _ in heard]
        if not as_json:
            print_rows(rows)
        of_all = f"{len(rows)} of {shared.counted(asked, 'record')} have a result"
        others = "" if cut.document or len(rows) == asked else ", and no other was sent"
        cut.reason = f"{cut.reason}: {of_all}{others}"
        cut.document = {**cut.document, "written": rows}
        raise cut from stopped


def print_rows(rows: Iterable[dict[str, Any]]) -> None:
    """Each result, for a person."""
    for row in rows:
        for line in lines_of(row):
            console.print(line, soft_wrap=True, markup=False)


def lines_of(row: dict[str, Any]) -> list[str]:
    """A record's result, each id whole, on lines of their own."""
    where = f" (at {row['path']})" if row["path"] else ""
    block = f", block {row['block']}" if row["block"] is not None else ""
    lines = [f"{row['verdict']}  record {row['record_id']}{block}"]
    if row["reason"]:
        lines.append(f"  {row['reason']}{where}")
    if row["tx_id"]:
        lines.append(f"  transaction {row['tx_id']}")
    if row["command_id"]:
        lines.append(f"  command {row['command_id']}")
    if row["cid"]:
        lines.append(f"  cid {row['cid']} at {', '.join(row['replicas'])}")
    if row["verify"]:
        lines.append(f"  verify: {row['verify']}")
    return [printable.line(one) for one in lines]


def summary(rows: list[dict[str, Any]]) -> str:
    """All of it in a sentence."""
    # A refusal is committed too: it is no record.
    on_record = [row["verdict"] == "OK" for row in rows if row["outcome"] == "COMMITTED"]
    if any(on_record):
        of_all = f"{sum(on_record)} of {shared.counted(len(rows), 'record')}"
        return f"{of_all} committed, says the gateway; `verify` proves it of each"
    if on_record:
        return "no record was committed; that it was refused is on the channel, where the patient sees it"
    if all(row["outcome"] == "NOT_DONE" for row in rows):
        return "nothing was committed"
    return "nothing is known to be committed"


def row_of(entry: Written, command_id: str, typist: hints.Typist) -> dict[str, Any]:
    """What became of a record, for machines.

    command_id  what was signed for it, where the gateway named none
    """
    receipt, stored = entry.told.receipt, entry.told.stored
    error, signed = entry.error, receipt.command_id or command_id
    outcome = code_pb2.Outcome.Name(error.outcome if error else receipt.outcome).removeprefix("OUTCOME_")
    # A refusal that is on the channel is in a block as well, and can be proven.
    is_there = bool(receipt.tx_id)
    return {
        "record_id": entry.record.record_id,
        "version": entry.record.version,
        "command_id": signed,
        "verdict": error.code_name if error else name_of(receipt.code),
        "outcome": outcome,
        "reason": error.reason if error else receipt.reason,
        "path": error.path if error else receipt.path,
        "tx_id": receipt.tx_id,
        "block": receipt.block if is_there else None,
        "cid": stored.cid,
        "replicas": list(stored.replicas),
        "verify": typist.command("verify", receipt.tx_id, signed) if is_there else "",
    }
