"""What a mistyped word may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_NAMED = 5


def of(typed: str, known: Iterable[str]) -> str:
    """The words that there are, after a sentence, and the one that is nearest to what was typed."""
    words = sorted(set(known))
    meant = {word.lower(): word for word in words}
    near = get_close_matches(typed.lower(), meant, n=1)
    return f"there are: {', '.join(words)}{f'; did you mean {meant[near[0]]}?' if near else ''}"


def some(known: Iterable[str]) -> str:
    """The first few of many."""
    words = sorted(set(known))
    return ", ".join(words[:_MOST_NAMED]) + (", …" if len(words) > _MOST_NAMED else "")
