"""What is asked for, and what is due when: a schedule that no stall of the mesh slows down."""

from __future__ import annotations

from dataclasses import dataclass

# The four kinds of bad records, in turn: each has to get its own verdict.
SIGNATURE, SCHEMA, REPLAY, FORBIDDEN = "signature", "schema", "replay", "forbidden"
BAD_KINDS = (SIGNATURE, SCHEMA, REPLAY, FORBIDDEN)
GOOD, READ = "good", "read"

MOST_PATIENTS = 5_000
LONGEST_RUN_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Load:
    """What is asked for.

    rate      operations a second in all; open loop: a stall does not slow the sender down
    seconds   how long
    users     authors, each with a key of their own; for reads, as many clinicians of the other member
    streams   gRPC streams that carry the records of all authors
    patients  whom the records are about
    size      bytes of a record's content
    reads     share of the operations that are authorised reads, 0 to 1
    bad       share of the records that are bad (signature, schema, replay, forbidden in turn), 0 to 1
    chart     reads in one call, as of somebody who opens a patient's chart; 1: each by itself
    """

    rate: float
    seconds: float
    users: int = 20
    streams: int = 1
    patients: int = 20
    size: int = 1000
    reads: float = 0.0
    bad: float = 0.0
    chart: int = 10

    @property
    def operations(self) -> int:
        """How many records and reads in all."""
        return max(round(self.rate * self.seconds), 1)

    def due_seconds(self, number: int) -> float:
        """When operation `number` is due, in seconds after the start."""
        return number / self.rate

    def kind(self, number: int) -> str:
        """What operation `number` is: reads are spread evenly over all, bad records over the records."""
        reads_before = int(number * self.reads)
        if int((number + 1) * self.reads) > reads_before:
            return READ
        record = number - reads_before
        bad_before = int(record * self.bad)
        if int((record + 1) * self.bad) > bad_before:
            return BAD_KINDS[bad_before % len(BAD_KINDS)]
        return GOOD

    def count(self, *kinds: str) -> int:
        """How many operations are of these kinds."""
        return sum(self.kind(number) in kinds for number in range(self.operations))

    def title(self) -> str:
        """The load in a line, for people."""
        parts = [f"{self.rate:,g}/s for {self.seconds:,g} s", f"{self.size:,} B", f"{self.users} authors"]
        parts += [f"{self.patients:,} patients", f"{self.streams} stream" + "s" * (self.streams > 1)]
        parts += [f"{self.reads:.0%} reads in charts of {self.chart}"] * (self.reads > 0)
        parts += [f"{self.bad:.1%} bad"] * (self.bad > 0)
        return ", ".join(parts)
