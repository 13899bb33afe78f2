"""Words from outside as a terminal may have them: no character of theirs moves it, colours it or turns it."""

from __future__ import annotations

import re

INSTEAD = "\N{REPLACEMENT CHARACTER}"
# C0 and C1, line and paragraph separators, what turns the direction of writing, halves of characters.
_CONTROLS = "\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE = re.compile(f"[{_CONTROLS}]")
_UNPRINTABLE_IN_A_LINE = re.compile(f"[\n{_CONTROLS}]")


def line(text: str) -> str:
    """As one line: for a reason, an id or a name, in which a new line would pass for one of ours."""
    return _UNPRINTABLE_IN_A_LINE.sub(INSTEAD, text)


def lines(text: str) -> str:
    """The same with its lines as they are."""
    return _UNPRINTABLE.sub(INSTEAD, text)
