"""Which members endorse a batch: as many as the channel's policy wants, of those that are available.

The channel's endorsement policy is a majority of its members. A member that is to hold a key of the batch
endorses too: only an endorser is sure to have received its private data.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2
from services.runtime.unavailable import Unavailability


@dataclass(frozen=True, slots=True)
class Holders:
    """MSP ids of the members whose private data a batch writes.

    needed  must endorse, or the data is lost: nobody else stores it (a patient's record key)
    wanted  should endorse, but can get the data from its writer later (a writer key)
    """

    needed: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()


class Endorsers:
    """Chooses endorsers, and remembers for a while who did not answer.

    own  the member of the gateway peer, which always endorses
    now  a clock, seconds
    """

    def __init__(self, own: str, now: Callable[[], float]) -> None:
        self.own = own
        self._absences = Unavailability(now)
        self._chosen: Counter[str] = Counter()

    def choose(self, members: Sequence[str], holders: Holders = Holders()) -> tuple[str, ...]:
        """MSP ids, the own first. A needed holder is asked even while it is unavailable."""
        needed = [msp for msp in members if msp in holders.needed and msp != self.own]
        others = [msp for msp in members if msp != self.own and msp not in needed]
        # In turn, so that the members share the work.
        others.sort(
            key=lambda msp: (self.is_unavailable(msp), msp not in holders.wanted, self._chosen[msp], msp)
        )
        majority = len(members) // 2 + 1
        wanted = sum(msp in holders.wanted and not self.is_unavailable(msp) for msp in others)
        count = max(majority - 1 - len(needed), wanted)
        chosen = [*needed, *others[:count]]
        self._chosen.update(chosen)
        return (self.own, *chosen)

    def is_unavailable(self, msp: str) -> bool:
        """True while a member is chosen only if a batch needs it."""
        return msp in self._absences

    def failed(self, asked: Iterable[str], named: Collection[str] = ()) -> None:
        """An endorsement failed: by the `named` members, or by any of the `asked` ones if none is named."""
        asked = [msp for msp in asked if msp != self.own]
        for msp in [msp for msp in asked if msp in named] or asked:
            self._absences.failed(msp)

    def answered(self, asked: Iterable[str]) -> None:
        """An endorsement succeeded."""
        for msp in asked:
            self._absences.answered(msp)


def is_absence(code: int | None, own_failed: bool) -> bool:
    """Whether an endorsement failed because other members are unavailable, behind, or have another time.

    code        of a chaincode's refusal; None: none refused. All but CODE_UNAVAILABLE concern the batch
    own_failed  the own member failed too, so the others are not the cause
    """
    return code is None or (code == code_pb2.CODE_UNAVAILABLE and not own_failed)
