"""What is sent and when: all of it is made and signed before the clock starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord, Prepared
from cbmdhi.demo import data

# A command lives 10 minutes at most, and it is signed before the run.
LONGEST_RUN_SECONDS = 300
_LIFETIME_SECONDS = 600


@dataclass(frozen=True)
class Load:
    """What is asked for.

    rate     records a second over all users; open loop: a stall does not slow the sender down
    seconds  how long
    users    streams, each with an author of its own
    size     bytes of a record's content, at least
    """

    rate: float
    seconds: float
    users: int
    size: int

    @property
    def records(self) -> int:
        """How many records in all."""
        return max(round(self.rate * self.seconds), 1)

    def due_seconds(self, number: int) -> float:
        """When record `number` is due, in seconds after the start."""
        return number / self.rate


def resource(size: int) -> dict[str, Any]:
    """An observation of a carebundle history, filled up by a note to `size` bytes of JSON."""
    made = next(
        entry["resource"]
        for entry in data.history(seed=1)["entry"]
        if entry["resource"]["resourceType"] == "Observation"
    )
    lean = {name: value for name, value in made.items() if name in ("resourceType", "status", "code")}
    missing = size - len(json.dumps({**lean, "note": [{"text": ""}]}, separators=(",", ":")))
    return {**lean, "note": [{"text": "x" * missing}]} if missing > 0 else lean


def prepare(load: Load, authors: Sequence[Client], patients: Sequence[str]) -> list[Prepared]:
    """Sign every record: record `number` is by author `number % users` about patient `number % patients`."""
    content = json.dumps(resource(load.size), separators=(",", ":")).encode()
    return [
        authors[number % load.users].records.prepare(
            NewRecord(patients[number % len(patients)], content), lifetime_seconds=_LIFETIME_SECONDS
        )
        for number in range(load.records)
    ]
