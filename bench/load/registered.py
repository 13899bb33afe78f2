"""Who was registered for load tests on this network before: kept beside the wallets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Person:
    """A name under the network's wallets, and the address."""

    name: str
    address: str


@dataclass
class Known:
    """Those who are active on the channel, in the order of their registration. One JSON object a line."""

    file: Path
    patients: list[Person] = field(default_factory=list)
    staff: dict[str, Person] = field(default_factory=dict)

    @classmethod
    def of(cls, home: Path) -> Known:
        """Those of the network at `home`; a line that a killed run left unfinished does not count."""
        known = cls(home / "wallets" / "hammer.jsonl")
        lines = known.file.read_text().splitlines() if known.file.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            known._remember(entry["kind"], Person(entry["name"], entry["address"]))
        return known

    def add_patients(self, people: Sequence[Person]) -> None:
        """Patients who are active now."""
        self._write("patient", people)

    def add_staff(self, person: Person) -> None:
        """Somebody of the staff who is active now."""
        self._write("staff", [person])

    def _write(self, kind: str, people: Sequence[Person]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            for person in people:
                self._remember(kind, person)
                line = json.dumps({"kind": kind, "name": person.name, "address": person.address})
                file.write(line + "\n")

    def _remember(self, kind: str, person: Person) -> None:
        if kind == "patient":
            self.patients.append(person)
        else:
            self.staff[person.name] = person
