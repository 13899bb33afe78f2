"""Reviews: who may review, and which registrations wait for whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.identity.domain import roles
from services.identity.domain.refusal import Refused, Why


@dataclass(frozen=True, slots=True)
class Waiting:
    """A registration that is pending, as the channel has it. `voted` holds MSP ids."""

    address: str
    role: str
    home_msp: str
    voted: frozenset[str]
    registered_at_ms: int


@dataclass(frozen=True, slots=True)
class Rule:
    """The policy's rule for one role."""

    role: str
    quorum: int
    home_only: bool


def waits_for(msp: str, registrations: Iterable[Waiting], rules: Iterable[Rule], most: int) -> list[Waiting]:
    """Those that this member has not voted on and may vote on, oldest first, at most `most`.

    A role without a rule is shown: who may vote is decided on the channel, and a list that hides
    is worse than a vote that is refused.
    """
    home_only = {rule.role for rule in rules if rule.home_only}
    waiting = (
        one
        for one in registrations
        if msp not in one.voted and (one.role not in home_only or one.home_msp == msp)
    )
    return sorted(waiting, key=lambda one: (one.registered_at_ms, one.address))[:most]


def check_administrator(*, role: str, home_msp: str, active: bool, own_msp: str) -> None:
    """Raise Refused FORBIDDEN unless the channel has this as an active administrator of this member."""
    if role != roles.ADMINISTRATOR or home_msp != own_msp or not active:
        raise Refused(Why.FORBIDDEN, "this is for an active administrator of this member alone")
