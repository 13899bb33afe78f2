"""Reviews: who may review, and which registrations wait for which member."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cbmdhi.protocol import address as addresses
from services.identity.domain import roles
from services.runtime.refusal import Refused

_LONGEST_AGE = 16


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


QueuePosition = tuple[int, str]
"""Position in the order of age: time of registration (Unix ms) and address."""

FIRST: QueuePosition = (0, "")


def place_of(one: Waiting) -> QueuePosition:
    """Its place in the order of age."""
    return one.registered_at_ms, one.address


def waits_for(
    msp: str, registrations: Iterable[Waiting], rules: Iterable[Rule], *, behind: QueuePosition, most: int
) -> list[Waiting]:
    """Registrations that this member may vote on and has not, oldest first, at most `most` behind a place.

    A role without a rule is shown. The channel decides who may vote, and hiding a registration is worse than
    a refused vote.
    """
    home_only = {rule.role for rule in rules if rule.home_only}
    waiting = (
        one
        for one in registrations
        if place_of(one) > behind
        and msp not in one.voted
        and (one.role not in home_only or one.home_msp == msp)
    )
    return sorted(waiting, key=place_of)[:most]


def token_of(one: Waiting) -> str:
    """Names the page behind a registration."""
    return f"{one.registered_at_ms}.{one.address}"


def place_named(token: str) -> QueuePosition:
    """The place that a token names; empty: the first. Raises Refused INVALID."""
    if not token:
        return FIRST
    age, _, address = token.partition(".")
    if not (age.isascii() and age.isdigit() and len(age) <= _LONGEST_AGE and addresses.is_address(address)):
        raise Refused.invalid("not a token of this list; start again without one", "page_token")
    return int(age), address


def check_administrator(*, role: str, home_msp: str, active: bool, own_msp: str) -> None:
    """Raise Refused FORBIDDEN unless the channel has this as an active administrator of this member."""
    if role != roles.ADMINISTRATOR or home_msp != own_msp or not active:
        raise Refused.forbidden("this is for an active administrator of this member alone")
