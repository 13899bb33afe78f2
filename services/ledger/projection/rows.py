"""Writes what transactions mean into the projection's tables."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from cbmdhi.command.v1 import state_pb2
from services.ledger.domain.transactions import CommittedTransaction, Written
from services.ledger.projection.person_rows import Person, PersonRows
from services.runtime.sqlite import json_list, write_rows

_VERSIONS_THERE = """
    SELECT record_id, version FROM record WHERE record_id IN (SELECT value FROM json_each(?))
"""
_ENTRIES_THERE = """
    SELECT command_id, signer FROM audit WHERE command_id IN (SELECT value FROM json_each(?))
"""
_REPLACE_RECORD = "UPDATE record SET category = ?, document = ?, root = ? WHERE record_id = ? AND version = ?"
_REPLACE_ENTRY = "UPDATE audit SET entry = ? WHERE command_id = ? AND signer = ?"
# An empty row stays as a link, under no name: written again, the record is a new row.
_DROP_RECORD = """
    UPDATE record SET record_id = NULL, document = x'', root = NULL WHERE record_id = ? AND version = ?
"""

_NEWEST_EPOCH = """
    INSERT INTO newest_epoch VALUES (0, ?)
    ON CONFLICT (row) DO UPDATE SET number = max(number, excluded.number)
"""


def write_facts(transactions: Sequence[CommittedTransaction], db: sqlite3.Connection) -> None:
    """Rows of consecutive transactions, of which only the last may drop records."""
    facts = [transaction.facts for transaction in transactions]
    records = [record for fact in facts for record in fact.records]
    entries = [(one.block, entry) for one in transactions for entry in one.facts.entries]
    write_rows(
        db, "INSERT OR IGNORE INTO transaction_block", [(one.tx_id, one.block) for one in transactions]
    )
    write_rows(
        db,
        "INSERT OR REPLACE INTO identity",
        [
            (one.address, one.role, one.status, one.home_msp, value, one.evidence_cid)
            for fact in facts
            for one, value in fact.identities
        ],
    )
    people = PersonRows(db, _addresses(records, entries))
    _write_records(records, people, db)
    _write_keys(records, people, db)
    _write_entries(entries, people, db)
    people.save()
    for fact in facts:
        db.executemany(_DROP_RECORD, fact.dropped_records)
        if fact.newest_epoch:
            db.execute(_NEWEST_EPOCH, (fact.newest_epoch,))


def about(entry: state_pb2.AuditEntry) -> str:
    """Whom an audit entry is about: the patient, else the identity that was registered or reviewed."""
    return entry.patient or entry.subject


def _addresses(
    records: Iterable[Written[state_pb2.RecordVersion]],
    entries: Iterable[tuple[int, Written[state_pb2.AuditEntry]]],
) -> set[str]:
    people = {one.patient for one, _ in records}
    for _, (one, _) in entries:
        people.add(one.signer)
        people.add(about(one))
    return people


def _next_seq(table: str, db: sqlite3.Connection) -> int:
    (last,) = db.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()  # noqa: S608 — ours
    return int(last) + 1


def _there(sql: str, new: Mapping[tuple[str, int], object], db: sqlite3.Connection) -> list[tuple[str, int]]:
    """Those of the keys that have a row already; `sql` finds the rows of ids in a JSON list."""
    ids = json_list(name for name, _ in new)
    return [place for row in db.execute(sql, (ids,)) if (place := tuple(row)) in new]


def _write_records(
    records: Sequence[Written[state_pb2.RecordVersion]], people: PersonRows, db: sqlite3.Connection
) -> None:
    """A version that is there already keeps its place, and its patient: the chaincode writes each once."""
    new = {(one.record_id, one.version): (one, value) for one, value in records}
    for place in _there(_VERSIONS_THERE, new, db):
        one, value = new.pop(place)
        db.execute(_REPLACE_RECORD, (one.category, value, _root(one), *place))
    rows: list[tuple[object, ...]] = []
    for seq, (one, value) in enumerate(new.values(), start=_next_seq("record", db)):
        patient = people[one.patient]
        rows.append(
            (
                *(seq, one.record_id, one.version, patient.number, patient.record, one.category, value),
                _root(one),
            )
        )
        patient.record = seq
    write_rows(db, "INSERT INTO record", rows)


def _write_keys(
    records: Iterable[Written[state_pb2.RecordVersion]], people: PersonRows, db: sqlite3.Connection
) -> None:
    keys = {
        (people[record.patient].number, record.writer_msp, key.epoch): key
        for record, _ in records
        if (key := record.content.writer_key).key_id
    }
    rows = [(*names, key.SerializeToString()) for names, key in keys.items()]
    write_rows(db, "INSERT OR IGNORE INTO writer_key", rows)


def _write_entries(
    entries: Iterable[tuple[int, Written[state_pb2.AuditEntry]]], people: PersonRows, db: sqlite3.Connection
) -> None:
    """An entry that is there already keeps its place and its block: the chaincode writes each once."""
    new: dict[tuple[str, int], tuple[int, Person, bytes]] = {}
    for block, (one, value) in entries:
        key = (one.command_id, people[one.signer].number)
        first = new.get(key)
        new[key] = (first[0], first[1], value) if first else (block, people[about(one)], value)
    for place in _there(_ENTRIES_THERE, new, db):
        *_, value = new.pop(place)
        db.execute(_REPLACE_ENTRY, (value, *place))
    rows: list[tuple[object, ...]] = []
    for seq, (key, (block, person, value)) in enumerate(new.items(), start=_next_seq("audit", db)):
        person.entries += 1
        rows.append((seq, *key, person.number, person.entries, person.entry, block, value))
        person.entry = seq
    write_rows(db, "INSERT INTO audit", rows)


def _root(record: state_pb2.RecordVersion) -> bytes | None:
    return record.content.root_sha256 or None
