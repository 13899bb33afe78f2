"""Which members endorse a batch: as many as the channel's policy wants, chosen by who is there.

The channel's endorsement policy is a majority of its members. Whoever is to hold a key that travels with the
batch endorses it too: only an endorser is sure to have received its member's private data.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from cbmdhi.command.v1 import code_pb2

_FIRST_SECONDS = 2.0
_LONGEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Holders:
    """MSP ids of the members whose private data a batch writes.

    needed  whoever else keeps it, so that it would be lost without them (a patient's record key)
    wanted  can have it from its writer later (a writer key)
    """

    needed: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Absence:
    until: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class Endorsers:
    """Remembers who did not answer, for a while that grows from 2 to 30 seconds.

    own  the member of the gateway peer, which endorses always
    now  a clock, seconds
    """

    own: str
    now: Callable[[], float]
    _absences: dict[str, _Absence] = field(default_factory=dict[str, _Absence])
    _chosen: dict[str, int] = field(default_factory=dict[str, int])

    def choose(self, members: Sequence[str], holders: Holders = Holders()) -> tuple[str, ...]:
        """MSP ids, the own first. Whom the batch needs is asked even while it is away."""
        needed = [msp for msp in members if msp in holders.needed and msp != self.own]
        others = [msp for msp in members if msp != self.own and msp not in needed]
        # Turn and turn about, so that the members share the work.
        others.sort(
            key=lambda msp: (self.is_away(msp), msp not in holders.wanted, self._chosen.get(msp, 0), msp)
        )
        majority = len(members) // 2 + 1
        wanted = sum(msp in holders.wanted and not self.is_away(msp) for msp in others)
        count = max(majority - 1 - len(needed), wanted)
        chosen = [*needed, *others[:count]]
        for msp in chosen:
            self._chosen[msp] = self._chosen.get(msp, 0) + 1
        return (self.own, *chosen)

    def is_away(self, msp: str) -> bool:
        """True while nobody is chosen for it who could do without."""
        absence = self._absences.get(msp)
        return absence is not None and self.now() < absence.until

    def failed(self, asked: Iterable[str], named: Collection[str] = ()) -> None:
        """An endorsement failed: at those that are `named`, else at any of those that were `asked`."""
        asked = [msp for msp in asked if msp != self.own]
        for msp in [msp for msp in asked if msp in named] or asked:
            absence = self._absences.setdefault(msp, _Absence())
            absence.seconds = min(_LONGEST_SECONDS, max(_FIRST_SECONDS, 2 * absence.seconds))
            absence.until = self.now() + absence.seconds

    def answered(self, asked: Iterable[str]) -> None:
        """An endorsement succeeded."""
        for msp in asked:
            self._absences.pop(msp, None)


def is_absence(code: int | None, own_failed: bool) -> bool:
    """Whether an endorsement failed since others are away, behind or at another time of day.

    code        what a chaincode said, None when none did: it speaks of the batch, but for CODE_UNAVAILABLE
    own_failed  the own member failed too: then it is not the others
    """
    return code is None or (code == code_pb2.CODE_UNAVAILABLE and not own_failed)
