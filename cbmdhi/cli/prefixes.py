"""Ids by their beginning: as they are shown in tables, and as they may be typed."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from cbmdhi.cli import mistyped
from cbmdhi.errors import Misuse
from cbmdhi.protocol import ids

_SHORTEST_SHOWN = 8
# "cb1" and so many more are not typed by chance.
_SHORTEST_ADDRESS = 7
_TX_ID = re.compile(r"[0-9a-f]{64}")
_ADDRESS_BEGINS = re.compile(r"cb1[a-z2-7]*…?")


def is_whole(typed: str) -> bool:
    """True of a whole id, which needs no looking up: a record's, a command's, or a transaction's."""
    return ids.is_command_id(typed) or _TX_ID.fullmatch(typed) is not None


def may_begin_address(typed: str) -> bool:
    """True of what is long enough to be the beginning of one address only."""
    return len(typed.rstrip("…")) >= _SHORTEST_ADDRESS and _ADDRESS_BEGINS.fullmatch(typed) is not None


def resolved(typed: str, known: Iterable[str], what: str) -> str:
    """The one id that begins with what was typed. Raises Misuse when none does, or several.

    what  it has to be, such as "consent"
    """
    beginning, found = typed.rstrip("…"), set(known)
    if not beginning:
        raise Misuse(f"which {what}? its id is empty")
    if beginning in found:
        return beginning
    meant = sorted(one for one in found if one.startswith(beginning))
    if len(meant) == 1:
        return meant[0]
    if not meant:
        there = f"; there are: {mistyped.some(found)}" if found else ", nor is there any other"
        raise Misuse(f"no {what} begins with {beginning!r}{there}")
    named = mistyped.some(meant)
    raise Misuse(f"{len(meant)} begin with {beginning!r}: type more of the one that is meant: {named}")


def shortening(shown: Iterable[str]) -> Callable[[str], str]:
    """How ids are shown together: by the shortest beginnings that tell them apart, and can be typed."""
    known = sorted({one for one in shown if one})
    length = _SHORTEST_SHOWN
    for one, other in itertools.pairwise(known):
        same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        length = max(length, same + 1)
    return lambda one: one if len(one) <= length + 1 else f"{one[:length]}…"


def wallets_in(home: Path) -> list[dict[str, str]]:
    """The wallets under a home: `name`, and `address`, `member` and `role` as they say themselves."""
    found: list[dict[str, str]] = []
    for file in sorted((home / "wallets").glob("*/wallet.json")):
        try:
            says = json.loads(file.read_text())
            kept = {key: str(says[key]) for key in ("address", "member", "role")}
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append({"name": file.parent.name, **kept})
    return found


def addresses_in(home: Path) -> list[str]:
    """Addresses of the wallets under a home."""
    return [wallet["address"] for wallet in wallets_in(home)]
