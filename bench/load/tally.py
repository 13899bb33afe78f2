"""What came back: of each operation when it was due, how long it took and what became of it."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.load.plan import FORBIDDEN, READ, REPLAY, SCHEMA, SIGNATURE, Load
from cbmdhi.command.v1 import code_pb2

NO_ANSWER = 0
# What each kind of bad record has to be answered; a replay gets the first receipt again.
EXPECTED = {
    SIGNATURE: code_pb2.CODE_BAD_SIGNATURE,
    SCHEMA: code_pb2.CODE_INVALID,
    FORBIDDEN: code_pb2.CODE_FORBIDDEN,
    REPLAY: code_pb2.CODE_OK,
}


class Stands(NamedTuple):
    """What a receipt says, to be found again in the block and in IPFS.

    cid and root_cid  of the stored content and of its batch; empty for what stores nothing
    """

    tx_id: str
    block: int
    command_id: str
    signer: str
    code: int
    cid: str
    root_cid: str


class Kept(NamedTuple):
    """What is remembered of a sent record for the check: who reads it, and the hashes that must agree."""

    patient: str
    record_id: str
    command_sha256: bytes
    content_sha256: bytes


@dataclass
class Tally:
    """Results by the number of the operation. Latencies in seconds from when it was due; NaN: none."""

    load: Load
    latencies: array[float] = field(init=False)
    codes: array[int] = field(init=False)
    stands: dict[int, Stands] = field(default_factory=dict)
    kept: dict[int, Kept] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    answered: int = 0
    committed: int = 0
    read: int = 0
    breaks: int = 0
    slowed: Counter[str] = field(default_factory=Counter)
    """How often the gateway said that it does not read for a while, by its reason."""
    seconds: float = 0.0
    last_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.latencies = array("d", [math.nan]) * self.load.operations
        self.codes = array("b", bytes(self.load.operations))

    def note(self, number: int, kind: str, code: int, at_seconds: float, *, again: bool = False) -> None:
        """An answer, `at_seconds` after the start. A bad record's is measured against what it deserves."""
        if self.codes[number] != NO_ANSWER:
            return
        self.codes[number] = code
        self.latencies[number] = at_seconds - self.load.due_seconds(number)
        self.answered += 1
        self.last_seconds = max(self.last_seconds, at_seconds)
        if kind in EXPECTED:
            if code != EXPECTED[kind] or (kind == REPLAY and not again):
                self.problems[f"a record with a bad {kind} was answered {name(code)}"] += 1
        elif code == code_pb2.CODE_OK:
            self.read += kind == READ
            self.committed += kind != READ

    @property
    def in_flight(self) -> int:
        """Sent and not answered."""
        return self.sent - self.answered

    def latencies_of(self, *kinds: str) -> list[float]:
        """Latencies of the operations of these kinds that were done, in seconds."""
        return [
            latency
            for number, latency in enumerate(self.latencies)
            if self.codes[number] == code_pb2.CODE_OK and self.load.kind(number) in kinds
        ]

    def refused(self, *kinds: str) -> dict[str, int]:
        """Operations of these kinds that were not done, by code; NO_ANSWER for those that never came."""
        counts = Counter(
            name(code)
            for number, code in enumerate(self.codes)
            if code != code_pb2.CODE_OK and self.load.kind(number) in kinds
        )
        return dict(counts)


def name(code: int) -> str:
    """A code's name without its prefix; NO_ANSWER when nothing came."""
    if code == NO_ANSWER:
        return "NO_ANSWER"
    return code_pb2.Code.Name(code_pb2.Code.ValueType(code)).removeprefix("CODE_")


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank); nan for none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else math.nan
