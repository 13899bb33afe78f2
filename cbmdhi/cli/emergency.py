"""`cbmdhi emergency`: open a record without the patient's consent, also while no majority is to be had."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cbmdhi.cli import prefixes, shared
from cbmdhi.cli.listing import when
from cbmdhi.cli.records import PatientOption, record_named
from cbmdhi.cli.shared import HomeOption, JsonOption, MemberOption, WalletOption, console
from cbmdhi.client import Client
from cbmdhi.client.emergency import EmergencyReading
from cbmdhi.client.records import Reading
from cbmdhi.errors import name_of
from cbmdhi.protocol import command
from cbmdhi.protocol.broken_glass import REASONS
from cbmdhi.storage.v1.storage_pb2 import KeptEmergency

app = typer.Typer(
    no_args_is_help=True,
    help="Break the glass (clinicians), and see what was opened without a majority (privacy officers).",
)


@app.command("open")
def open_record(
    record: Annotated[
        str, typer.Argument(help="Record id, or ID/VERSION: the latest one. Its beginning will do.")
    ],
    patient: PatientOption,
    reason: Annotated[str, typer.Option(help="unconscious, life-threatening or public-safety.")],
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Open a record in an emergency: the patient is told at once, two members review it.

    While no majority of the members is to be had, the patient's own hospital opens it off the record: it
    comes on record when a majority is back.

    Examples:

        cbmdhi emergency open 01a22d4c -p cb1zcyna --reason unconscious -w mercy-clinician

        cbmdhi emergency open 01a22d4c/2 -p cb1zcyna --reason public-safety -w mercy-clinician
    """
    patient = shared.patient_named(patient, home)
    shared.closed("--reason", [reason], REASONS)
    typed, version = shared.record_and_version(record)

    async def work(client: Client) -> Reading | EmergencyReading:
        asked = patient, await record_named(client, typed, patient, "ETREAT"), version or 0, reason
        if (await client.emergency.standstill()).stands_still:
            return await client.emergency.open(*asked)
        return await client.records.break_glass(*asked)

    reading = shared.with_client(wallet, home, member, work)
    off_record = isinstance(reading, EmergencyReading)
    command_id = reading.command_id if off_record else reading.receipt.command_id
    if as_json:
        document = {"command_id": command_id, "on_record": not off_record}
        print(shared.json_line(document, reading.content))
        return
    if off_record:
        shared.errors.print(
            f"[yellow]OFF THE RECORD[/yellow] until a majority of the members is back: opened as "
            f"{command_id}. The patient is told now; it will be put on record and reviewed by two members. "
            "That this is the "
            f"latest version is the word of {' and '.join(reading.proof.endorsers)} alone"
        )
    else:
        shared.errors.print(
            f"on record in block {reading.receipt.block}; the patient is told, two members review"
        )
    shared.write_content(reading.content, None)


@app.command("list")
def list_kept(
    unrecorded: Annotated[bool, typer.Option("--unrecorded", help="Only what is not on record yet.")] = False,
    wallet: WalletOption = "",
    member: MemberOption = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """What this member opened without a majority (its administrators and privacy officers).

    Examples:

        cbmdhi emergency list -w mercy-privacy

        cbmdhi emergency list --unrecorded -w mercy-privacy --json
    """
    kept = shared.with_client(
        wallet, home, member, lambda client: client.emergency.kept(unrecorded_only=unrecorded)
    )
    rows = [_row(one) for one in kept]
    if as_json:
        print(json.dumps(rows))
        return
    who = prefixes.shortening(one for row in rows for one in (row["clinician"], row["patient"]))
    table = shared.table(
        "opened (UTC)", "clinician", "patient", "record", "patient told", "on record", "against it"
    )
    for row in rows:
        table.add_row(
            when(row["opened_at_ms"]),
            who(row["clinician"]),
            who(row["patient"]),
            f"{row['record_id']}/{row['version']}",
            "yes" if row["told"] else "NOT YET",
            "yes" if row["recorded"] else "NOT YET",
            row["objection"],
        )
    if not rows:
        console.print("nothing was opened without a majority")
        return
    shared.show(table)


def _row(one: KeptEmergency) -> dict[str, Any]:
    header, body = command.parse(one.command)
    glass = body.emergency_access.glass
    return {
        "command_id": header.command_id,
        "clinician": one.command.signer,
        "patient": glass.patient,
        "record_id": glass.record_id,
        "version": glass.version,
        "opened_at_ms": one.opened_at_ms,
        "told": one.told,
        "recorded": one.recorded,
        "objection": name_of(one.objection) if one.objection else "",
    }
