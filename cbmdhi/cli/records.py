"""`cbmdhi put`, `get`, `list`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cbmdhi import fhir
from cbmdhi.cli import file_writes, hints, lazy, prefixes, shared, unsure, written_rows
from cbmdhi.cli.exits import Status
from cbmdhi.cli.home import command_for
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, TraceOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.client.records import Reading, Written
from cbmdhi.client.tracing import traced
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.errors import MeshError, Misuse, UnknownOutcome
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem
from cbmdhi.protocol.categories import CATEGORIES, PURPOSES

PatientOption = Annotated[
    str,
    typer.Option(
        "--patient", "-p", help="Address of the patient; of a wallet under HOME its beginning will do."
    ),
]


def put(
    file: Annotated[
        Path, typer.Argument(help="A FHIR R4 resource or Bundle as JSON; - reads standard input.")
    ],
    patient: PatientOption,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
    trace: TraceOption = False,
) -> None:
    """Write records: signed here, encrypted, replicated, committed.

    A transaction is committed as a whole or not at all, the entries of a batch each by itself; a document,
    message or collection is one record.

    Prints a receipt for each, with its ids whole and what proves it. Ends with 1 when one is refused, and
    with 3 when nobody can say what became of one.

    Examples:

        cbmdhi put observation.json -p cb1zcynahh4slrtorcscddpcmjprqj3enok -w mercy-engine

        cat bundle.json | cbmdhi put - -p cb1zcynahh4slrtorcscddpcmjprqj3enok -w mercy-engine --json
    """

    patient = shared.patient_named(patient, home)
    writes = fhir.writes_of(shared.json_object(file)[0], patient)
    left: list[unsure.Unsure] = []
    typist = hints.Typist(home, wallet, member)

    heard: list[file_writes.Result] = []

    async def work(client: Client) -> list[Written]:
        written = await file_writes.write(client, writes, heard)
        left.append(unsure.keep(client.wallet.folder, _open_ones(written)))
        heard[:] = written
        return [entry for entry, _ in written]

    with _kept(trace, typist), written_rows.told_when_cut(heard, len(writes.asked), typist, as_json=as_json):
        written = shared.with_client(wallet, home, member, work)
        # A gateway that could not tell named no command.
        signed = {one.ids.get("record_id", ""): one.ids["command_id"] for one in left[0].signed}
        rows = [
            written_rows.row_of(entry, signed.get(entry.record.record_id, ""), typist) for entry in written
        ]
        try:
            if as_json:
                print(json.dumps(rows), flush=True)
            else:
                written_rows.print_rows(rows)
                console.print(written_rows.summary(rows), soft_wrap=True, markup=False)
        finally:
            # Said also when nobody reads the rest, or Ctrl-C comes: it is kept in any case.
            if left[0].signed:
                shared.say(*hints.unknown(left[0], typist).lines)
    if left[0].signed:
        raise typer.Exit(Status.UNKNOWN)
    if not all(entry.ok for entry in written):
        raise typer.Exit(Status.FAILED)


def get(
    record: Annotated[
        str, typer.Argument(help="Record id for the latest version, or ID/VERSION; its beginning will do.")
    ],
    patient: PatientOption,
    purpose: Annotated[str, typer.Option(help=f"Purpose of use: {', '.join(sorted(PURPOSES))}.")] = "TREAT",
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
    """Read a record: the decision is committed first, then it is decrypted here.

    A refusal is on record as well: the patient sees it.

    Examples:

        cbmdhi get 01a22d4c -p cb1zcynahh4slrtorcscddpcmjprqj3enok -w mercy-clinician

        cbmdhi get 01a22d4c -p cb1zcynahh4slrtorcscddpcmjprqj3enok -o record.json -w mercy-clinician

        cbmdhi get 01a22d4c/1 --history -p cb1zcynahh4slrtorcscddpcmjprqj3enok --purpose PATRQT -w anna
    """
    patient = shared.patient_named(patient, home)
    shared.closed("--purpose", [purpose], PURPOSES)
    typed, version = shared.record_and_version(record)
    if output is not None:
        # The reading is on record for ever: nobody should have to ask for another.
        shared.check_writable(output)

    async def work(client: Client) -> Reading:
        record_id = await record_named(client, typed, patient, purpose)
        action = "history" if history else "read"
        return await client.records.read(patient, record_id, version or 0, purpose, action)

    with _kept(trace, hints.Typist(home, wallet, member)):
        reading = shared.with_client(wallet, home, member, work)
    if as_json:
        print(shared.json_line({"receipt": shared.plain(reading.receipt)}, reading.content))
        return
    shared.say(
        f"permitted, says the gateway, in block {reading.receipt.block} "
        f"by {', '.join(reading.receipt.basis.policies)}; "
        f"key released by {reading.released_by}; the content is what {reading.record.author} "
        f"signed and the peers of {' and '.join(reading.proof.endorsers)} hold"
    )
    shared.write_content(reading.content, output)


async def record_named(client: Client, typed: str, patient: str, purpose: str) -> str:
    """The id of a patient's record, from it or from its beginning. Raises Misuse when none begins so, or
    several, or when the wallet may not search them."""
    if prefixes.is_whole(typed):
        return typed
    try:
        found = await client.records.list(patient, purpose=purpose)
    except MeshError as error:
        if error.code != code_pb2.CODE_FORBIDDEN:
            raise
        why = f"this wallet may not search the patient's records for the whole of {typed!r}: type it whole"
        raise Misuse(why, "record") from error
    if not found:
        raise Misuse(f"this wallet may search none of the patient's records: type {typed!r} whole", "record")
    return prefixes.resolved(
        typed, [entry.record_id for entry in found], "record that this wallet may search"
    )


def list_records(
    patient: Annotated[
        str,
        typer.Option("--patient", "-p", help="Address, or its beginning; a patient's default: their own."),
    ] = "",
    category: Annotated[str, typer.Option(help="Data category, such as observations.")] = "",
    purpose: Annotated[str, typer.Option(help="Purpose of use. Default: TREAT; of one's own: PATRQT.")] = "",
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the records that the wallet may search.

    Examples:

        cbmdhi list -w anna

        cbmdhi list -p cb1zcynahh4slrtorcscddpcmjprqj3enok --category observations -w mercy-clinician --json
    """
    chosen = purpose or ("TREAT" if patient else "PATRQT")

    async def work(client: Client) -> list[RecordVersion]:
        if not patient and client.wallet.role != pb.ROLE_PATIENT:
            raise Misuse("whose records? name the patient: -p ADDRESS", "patient")
        return await client.records.list(patient, category=category, purpose=chosen)

    shared.closed("--purpose", [chosen], PURPOSES)
    if category:
        shared.closed("--category", [category], CATEGORIES)
    if patient:
        patient = shared.patient_named(patient, home)
    found = shared.with_client(wallet, home, member, work)
    if as_json:
        print(json.dumps([shared.plain(entry) for entry in found]))
        return
    table = shared.table("record", "version", "category", "author", "written by", "bytes")
    short = prefixes.shortening(entry.author for entry in found)
    for entry in found:
        table.add_row(
            entry.record_id,
            str(entry.version),
            entry.category,
            short(entry.author),
            entry.writer_msp,
            str(entry.content_bytes),
        )
    if not found:
        console.print("no records that this wallet may search")
        return
    shared.show(table)


@contextmanager
def _kept(trace: bool, typist: hints.Typist) -> Iterator[None]:
    """Have the mesh keep the trace of what is done inside, when that is wished and can be."""
    if not trace:
        yield
        return
    home = typist.home.expanduser().resolve()
    is_ours = hints.is_of(home, shared.wallet_folder(typist.wallet, home))
    # `cbmdhi up` keeps this file while the network is traced.
    if is_ours and not (home / "traced").exists():
        how = f": {command_for(home, 'up', '--traced')}" if lazy.is_here("up") else ""
        shared.say(f"no trace is kept, the network is not traced{how}")
        yield
        return
    with traced() as trace_id:
        told = (
            command_for(home, "trace", trace_id)
            if is_ours and lazy.is_here("trace")
            else f"{trace_id}, for who runs the mesh"
        )
        shared.say(f"its trace: {told}")
        yield


def _open_ones(written: list[file_writes.Result]) -> list[IngestItem]:
    return [
        signed.item
        for entry, signed in written
        if signed is not None and isinstance(entry.error, UnknownOutcome)
    ]
