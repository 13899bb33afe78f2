"""People as the projection's rows know them: by a small number, and by the newest rows about them."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from services.runtime.sqlite import json_list, write_rows

_KNOWN = """
    SELECT address, person, record, entry, entries FROM person JOIN newest ON newest.person = person.id
    WHERE address IN (SELECT value FROM json_each(?))
"""


@dataclass(slots=True)
class Person:
    """`record` and `entry` are the newest rows about them, 0 when there is none; `entries` counts."""

    number: int
    record: int = 0
    entry: int = 0
    entries: int = 0


class PersonRows:
    """The people that a transaction writes about. New ones get a number. `save` writes changes."""

    def __init__(self, db: sqlite3.Connection, addresses: Iterable[str]) -> None:
        self._db = db
        wanted = sorted(set(addresses))
        known = db.execute(_KNOWN, (json_list(wanted),)).fetchall()
        self._people = {address: Person(*row) for address, *row in known}
        new = [address for address in wanted if address not in self._people]
        if new:
            (last,) = db.execute("SELECT coalesce(max(person), 0) FROM newest").fetchone()
            self._people.update((address, Person(last + nth)) for nth, address in enumerate(new, start=1))
            write_rows(db, "INSERT INTO person", [(one, self._people[one].number) for one in new])

    def __getitem__(self, address: str) -> Person:
        return self._people[address]

    def save(self) -> None:
        rows = sorted((one.number, one.record, one.entry, one.entries) for one in self._people.values())
        write_rows(self._db, "INSERT OR REPLACE INTO newest", rows)
