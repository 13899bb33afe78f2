"""`cbmdhi put`, `get`, `list`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cbmdhi import fhir
from cbmdhi.cli import shared
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.cli.trace import TraceOption
from cbmdhi.client import Client
from cbmdhi.client.records import Written
from cbmdhi.client.tracing import traced
from cbmdhi.devnet.layout import command_for
from cbmdhi.errors import name_of


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
    """Write records: signed here, encrypted, replicated, committed. Prints a receipt for each."""

    async def work(client: Client) -> list[Written]:
        return await client.records.put(fhir.records_of(shared.json_object(file, "a FHIR resource"), patient))

    with _kept(trace, home):
        written = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps([_row(entry) for entry in written]))
    else:
        table = shared.table("record", "verdict", "block", "transaction", "cid", "replicas")
        for entry in written:
            row = _row(entry)
            table.add_row(
                row["record_id"],
                row["verdict"] if entry.ok else f"{row['verdict']}: {row['reason']}",
                str(row["block"]),
                shared.short(row["tx_id"]),
                shared.short(row["cid"]),
                ", ".join(row["replicas"]),
            )
        console.print(table)
        console.print("as the gateway says; `cbmdhi verify` proves it, by the ids that --json shows")
    if not all(entry.ok for entry in written):
        raise typer.Exit(1)


def get(
    record: Annotated[str, typer.Argument(help="Record id, or ID/VERSION.")],
    patient: Annotated[str, typer.Option("--patient", "-p", help="Address of the patient.")],
    purpose: Annotated[
        str, typer.Option(help="TREAT, ETREAT, HPAYMT, HOPERAT, HRESCH, PATRQT, PUBHLTH.")
    ] = "TREAT",
    history: Annotated[
        bool, typer.Option("--history", help="Read a version that is not the latest any more.")
    ] = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
    trace: TraceOption = False,
) -> None:
    """Read a record: the decision is committed first, then it is decrypted here."""
    record_id, _, version = record.partition("/")
    if version and not version.isdigit():
        shared.errors.print("a version is a number: ID/VERSION")
        raise typer.Exit(2)
    with _kept(trace, home):
        reading = shared.with_client(
            wallet,
            home,
            member,
            lambda client: client.records.read(
                patient, record_id, int(version or 1), purpose, "history" if history else "read"
            ),
        )
    if as_json:
        print(json.dumps({"receipt": shared.plain(reading.receipt), "resource": reading.resource}))
        return
    shared.errors.print(
        f"permitted, says the gateway, in block {reading.receipt.block} "
        f"by {', '.join(reading.receipt.basis.policies)}; "
        f"key released by {reading.released_by}; the content is what {shared.short(reading.record.author)} "
        f"signed and the peers of {' and '.join(reading.proof.endorsers)} hold"
    )
    print(json.dumps(reading.resource, indent=2, ensure_ascii=False))


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


def _row(entry: Written) -> dict[str, Any]:
    receipt, stored = entry.receipt.receipt, entry.receipt.stored
    error = entry.error
    return {
        "record_id": entry.record.record_id,
        "version": entry.record.version,
        "command_id": receipt.command_id,
        "verdict": error.code_name if error else name_of(receipt.code),
        "reason": error.reason if error else receipt.reason,
        "path": error.path if error else receipt.path,
        "tx_id": receipt.tx_id,
        "block": receipt.block,
        "cid": stored.cid,
        "replicas": list(stored.replicas),
    }
