"""Which members endorse a batch: as many as the channel's policy wants, chosen by who is there.

The channel's endorsement policy is a majority of its members. Whoever is to hold a key that travels with the
batch endorses it too: only an endorser is sure to have received its member's private data.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2
from services.runtime.unavailable import Unavailability


@dataclass(frozen=True, slots=True)
class Holders:
    """MSP ids of the members whose private data a batch writes.

    needed  whoever else keeps it, so that it would be lost without them (a patient's record key)
    wanted  can have it from its writer later (a writer key)
    """

    needed: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()


class Endorsers:
    """Remembers who did not answer, for a while.

    own  the member of the gateway peer, which endorses always
    now  a clock, seconds
    """

    def __init__(self, own: str, now: Callable[[], float]) -> None:
        self.own = own
        self._absences = Unavailability(now)
        self._chosen: Counter[str] = Counter()

    def choose(self, members: Sequence[str], holders: Holders = Holders()) -> tuple[str, ...]:
        """MSP ids, the own first. Whom the batch needs is asked even while it is away."""
        needed = [msp for msp in members if msp in holders.needed and msp != self.own]
        others = [msp for msp in members if msp != self.own and msp not in needed]
        # Turn and turn about, so that the members share the work.
        others.sort(key=lambda msp: (self.is_away(msp), msp not in holders.wanted, self._chosen[msp], msp))
        majority = len(members) // 2 + 1
        wanted = sum(msp in holders.wanted and not self.is_away(msp) for msp in others)
        count = max(majority - 1 - len(needed), wanted)
        chosen = [*needed, *others[:count]]
        self._chosen.update(chosen)
        return (self.own, *chosen)

    def is_away(self, msp: str) -> bool:
        """True while nobody is chosen for it who could do without."""
        return msp in self._absences

    def failed(self, asked: Iterable[str], named: Collection[str] = ()) -> None:
        """An endorsement failed: at those that are `named`, else at any of those that were `asked`."""
        asked = [msp for msp in asked if msp != self.own]
        for msp in [msp for msp in asked if msp in named] or asked:
            self._absences.failed(msp)

    def answered(self, asked: Iterable[str]) -> None:
        """An endorsement succeeded."""
        for msp in asked:
            self._absences.answered(msp)


def is_absence(code: int | None, own_failed: bool) -> bool:
    """Whether an endorsement failed since others are away, behind or at another time of day.

    code        what a chaincode said, None when none did: it speaks of the batch, but for CODE_UNAVAILABLE
    own_failed  the own member failed too: then it is not the others
    """
    return code is None or (code == code_pb2.CODE_UNAVAILABLE and not own_failed)
