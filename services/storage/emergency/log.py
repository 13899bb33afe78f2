"""The log of records opened without a majority. An entry is on the disk before its key leaves."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import EmergencyCharge
from services.runtime.sqlite import Database
from services.storage.domain.emergency import Emergency


class LogOutcome(Enum):
    """The outcome of `EmergencyLog.keep`."""

    KEPT = "kept"
    """The decision is on the disk now, for the first time: release the key."""
    THERE = "there"
    """The decision was in the log already: its key was released before."""
    CHANGED = "changed"
    """The clinician opened more, or more was put on record, since the decision: decide again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision in the log.

    opened_ms    when the key left, Unix ms
    told         the patient's inbox has the notice
    recorded_ms  when the command was found on the channel, Unix ms; 0: not yet
    objection    the code that the channel has against it
    """

    signed: SignedCommand
    command_id: str
    clinician: str
    opened_ms: int
    told: bool
    recorded_ms: int
    objection: int

    @property
    def command_sha256(self) -> bytes:
        """The hash by which the audit entry names this command."""
        return hashlib.sha256(self.signed.command).digest()


_COLUMNS = "signed, command, clinician, opened_ms, told, recorded_ms, objection"


class EmergencyLog:
    """The table `emergency`. No row is ever removed. Raises MeshError UNAVAILABLE (the disk)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def charges(self, clinician: str) -> list[EmergencyCharge]:
        """The clinician's openings that are not on the channel yet, oldest first."""
        rows = await self._database.rows(
            "SELECT patient, opened_ms FROM emergency WHERE clinician = ? AND recorded_ms = 0 "
            "ORDER BY opened_ms, command",
            (clinician,),
        )
        return [EmergencyCharge(patient=row["patient"], opened_at_ms=row["opened_ms"]) for row in rows]

    async def keep(self, asked: Emergency, opened_ms: int, charged: int) -> LogOutcome:
        """Write a decision to the disk. `charged`: how many charges the decision counted."""
        row = (
            *(asked.command_id, asked.clinician, asked.patient),
            *(asked.signed.SerializeToString(), opened_ms),
        )

        def write(db: sqlite3.Connection) -> LogOutcome:
            known = db.execute("SELECT 1 FROM emergency WHERE command = ? AND clinician = ?", asked.key)
            if known.fetchone() is not None:
                return LogOutcome.THERE
            count = "SELECT count(*) FROM emergency WHERE clinician = ? AND recorded_ms = 0"
            if db.execute(count, (asked.clinician,)).fetchone()[0] != charged:
                return LogOutcome.CHANGED
            db.execute(
                "INSERT INTO emergency (command, clinician, patient, signed, opened_ms) "
                "VALUES (?, ?, ?, ?, ?)",
                row,
            )
            return LogOutcome.KEPT

        return await self._database.write(write)

    async def unsettled(self, limit: int, after: Kept | None = None) -> list[Kept]:
        """Entries without a notice or not on the channel, oldest first, from behind `after` on."""
        place = (after.opened_ms, after.command_id, after.clinician) if after is not None else (0, "", "")
        return await self._read(
            "WHERE (told = 0 OR recorded_ms = 0) AND (opened_ms, command, clinician) > (?, ?, ?) "
            "ORDER BY opened_ms, command, clinician LIMIT ?",
            (*place, limit),
        )

    async def newest(self, limit: int, *, unrecorded_only: bool) -> list[Kept]:
        """At most `limit` entries, newest first."""
        return await self._read(
            "WHERE recorded_ms = 0 OR NOT ? ORDER BY opened_ms DESC, command LIMIT ?",
            (unrecorded_only, limit),
        )

    async def unrecorded(self) -> tuple[int, int]:
        """How many are not on the channel, and when the oldest was opened (Unix ms; 0: none)."""
        row = await self._database.row(
            "SELECT count(*), coalesce(min(opened_ms), 0) FROM emergency WHERE recorded_ms = 0"
        )
        assert row is not None  # noqa: S101 - an aggregate has a row
        return int(row[0]), int(row[1])

    async def told(self, one: Kept) -> None:
        """Note that the patient's inbox has the notice."""
        await self._set("told = 1", (), one)

    async def recorded(self, one: Kept, at_ms: int, objection: int) -> None:
        """Note that the command was found on the channel."""
        await self._set("recorded_ms = ?, objection = ?", (at_ms, objection), one)

    async def _set(self, what: str, values: tuple[int, ...], one: Kept) -> None:
        async with self._database.transaction() as db:
            await db.execute(
                f"UPDATE emergency SET {what} WHERE command = ? AND clinician = ?",  # noqa: S608 - our own
                (*values, one.command_id, one.clinician),
            )

    async def _read(self, where: str, parameters: Sequence[int | str]) -> list[Kept]:
        rows = await self._database.rows(f"SELECT {_COLUMNS} FROM emergency {where}", parameters)  # noqa: S608
        return [
            Kept(
                SignedCommand.FromString(row["signed"]),
                row["command"],
                row["clinician"],
                row["opened_ms"],
                bool(row["told"]),
                row["recorded_ms"],
                row["objection"] or code_pb2.CODE_UNSPECIFIED,
            )
            for row in rows
        ]
