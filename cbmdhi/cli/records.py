"""`cbmdhi put`, `get`, `list`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cbmdhi import fhir
from cbmdhi.cli import file_writes, hints, shared, unsure
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.client.records import Written
from cbmdhi.client.tracing import traced
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import UnknownOutcome, name_of
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem
from cbmdhi.protocol.categories import CATEGORIES, PURPOSES
from ops.cli.trace import TraceOption
from ops.devnet.layout import command_for


def put(
    file: Annotated[
        Path, typer.Argument(help="A FHIR R4 resource or Bundle as JSON; - reads standard input.")
    ],
    patient: Annotated[str, typer.Option("--patient", "-p", help="Address of the patient.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
    trace: TraceOption = False,
) -> None:
    """Write records: signed here, encrypted, replicated, committed. Prints a receipt for each.

    A transaction is committed as a whole or not at all, the entries of a batch each by itself; a document,
    message or collection is one record.
    """

    shared.guarded(lambda: shared.check_patient(patient, home))
    writes = shared.guarded(lambda: fhir.writes_of(shared.json_object(file)[0], patient))
    left: list[unsure.Unsure] = []
    typist = hints.Typist(home, wallet, member)

    async def work(client: Client) -> list[Written]:
        written = await file_writes.write(client, writes)
        left.append(unsure.keep(client.wallet.folder, _open_ones(written)))
        return [entry for entry, _ in written]

    with _kept(trace, home):
        written = shared.with_client(wallet, home, member, work)
    # A gateway that could not tell named no command.
    signed = {one.ids.get("record_id", ""): one.ids["command_id"] for one in left[0].signed}
    rows = [
        row | {"command_id": row["command_id"] or signed.get(row["record_id"], "")}
        for row in map(_row, written)
    ]
    if as_json:
        print(json.dumps(rows))
    else:
        for row in rows:
            for line in _lines(row):
                console.print(line, soft_wrap=True, markup=False)
        console.print(_proof_of(rows, typist), soft_wrap=True, markup=False)
    if left[0].signed:
        for line in hints.unknown(left[0], typist).lines:
            shared.errors.print(line, soft_wrap=True, markup=False)
    if not all(entry.ok for entry in written):
        raise typer.Exit(1)


def get(
    record: Annotated[str, typer.Argument(help="Record id for the latest version, or ID/VERSION.")],
    patient: Annotated[str, typer.Option("--patient", "-p", help="Address of the patient.")],
    purpose: Annotated[
        str, typer.Option(help="TREAT, ETREAT, HPAYMT, HOPERAT, HRESCH, PATRQT, PUBHLTH.")
    ] = "TREAT",
    history: Annotated[
        bool, typer.Option("--history", help="Read a version that is not the latest any more.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the resource, to the byte as it was signed."),
    ] = None,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
    trace: TraceOption = False,
) -> None:
    """Read a record: the decision is committed first, then it is decrypted here."""
    shared.guarded(lambda: shared.check_patient(patient, home))
    shared.guarded(lambda: shared.closed("--purpose", [purpose], PURPOSES))
    record_id, _, version = record.partition("/")
    if version and not version.isdigit():
        shared.errors.print("a version is a number: ID/VERSION")
        raise typer.Exit(2)
    if output is not None:
        # The reading is on record for ever: nobody should have to ask for another.
        shared.guarded(lambda: shared.check_writable(output))
    with _kept(trace, home):
        reading = shared.with_client(
            wallet,
            home,
            member,
            lambda client: client.records.read(
                patient, record_id, int(version or 0), purpose, "history" if history else "read"
            ),
        )
    if as_json:
        print(shared.json_line({"receipt": shared.plain(reading.receipt)}, reading.content))
        return
    shared.errors.print(
        f"permitted, says the gateway, in block {reading.receipt.block} "
        f"by {', '.join(reading.receipt.basis.policies)}; "
        f"key released by {reading.released_by}; the content is what {shared.short(reading.record.author)} "
        f"signed and the peers of {' and '.join(reading.proof.endorsers)} hold"
    )
    shared.guarded(lambda: shared.write_content(reading.content, output))


def list_records(
    patient: Annotated[
        str, typer.Option("--patient", "-p", help="Address; by default the wallet's own.")
    ] = "",
    category: Annotated[str, typer.Option(help="Data category, such as observations.")] = "",
    purpose: Annotated[str, typer.Option(help="Purpose of use.")] = "",
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the records that the wallet may search."""
    chosen = purpose or ("TREAT" if patient else "PATRQT")
    shared.guarded(lambda: shared.closed("--purpose", [chosen], PURPOSES))
    if category:
        shared.guarded(lambda: shared.closed("--category", [category], CATEGORIES))
    if patient:
        shared.guarded(lambda: shared.check_patient(patient, home))
    found = shared.with_client(
        wallet, home, member, lambda client: client.records.list(patient, category=category, purpose=chosen)
    )
    if as_json:
        print(json.dumps([shared.plain(entry) for entry in found]))
        return
    table = shared.table("record", "version", "category", "author", "written by", "bytes")
    for entry in found:
        table.add_row(
            entry.record_id,
            str(entry.version),
            entry.category,
            shared.short(entry.author),
            entry.writer_msp,
            str(entry.content_bytes),
        )
    console.print(table if found else "no records that this wallet may search")


@contextmanager
def _kept(trace: bool, home: Path) -> Iterator[None]:
    """Have the mesh keep the trace of what is done inside, when that is wished."""
    if not trace:
        yield
        return
    with traced() as trace_id:
        shared.errors.print(f"its trace: {command_for(home, 'trace', trace_id)}", soft_wrap=True)
        yield


def _open_ones(written: list[file_writes.Result]) -> list[IngestItem]:
    return [
        signed.item
        for entry, signed in written
        if signed is not None and isinstance(entry.error, UnknownOutcome)
    ]


def _lines(row: dict[str, Any]) -> list[str]:
    """A record's result, each id whole, on lines of their own."""
    where = f" (at {row['path']})" if row["path"] else ""
    lines = [
        f"{row['verdict']}  record {row['record_id']}" + (f", block {row['block']}" if row["block"] else "")
    ]
    if row["reason"]:
        lines.append(f"  {row['reason']}{where}")
    if row["tx_id"]:
        lines += [f"  transaction {row['tx_id']}", f"  command {row['command_id']}"]
    if row["cid"]:
        lines.append(f"  cid {row['cid']} at {', '.join(row['replicas'])}")
    return lines


def _proof_of(rows: list[dict[str, Any]], typist: hints.Typist) -> str:
    committed = next((row for row in rows if row["outcome"] == "COMMITTED"), None)
    if committed is not None:
        proves = typist.command("verify", committed["tx_id"], committed["command_id"])
        return f"as the gateway says; by the ids of each it is proven, such as: {proves}"
    if all(row["outcome"] == "NOT_DONE" for row in rows):
        return "nothing was committed"
    return "nothing is known to be committed"


def _row(entry: Written) -> dict[str, Any]:
    receipt, stored = entry.told.receipt, entry.told.stored
    error = entry.error
    return {
        "record_id": entry.record.record_id,
        "version": entry.record.version,
        "command_id": receipt.command_id,
        "verdict": error.code_name if error else name_of(receipt.code),
        "outcome": code_pb2.Outcome.Name(error.outcome if error else receipt.outcome).removeprefix(
            "OUTCOME_"
        ),
        "reason": error.reason if error else receipt.reason,
        "path": error.path if error else receipt.path,
        "tx_id": receipt.tx_id,
        "block": receipt.block,
        "cid": stored.cid,
        "replicas": list(stored.replicas),
    }
