"""Masks addresses and ids in logs and traces. Objects are never rendered."""

import re
from typing import Any

_PERSONAL = re.compile(
    r"\bcb1[a-z2-7]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\bemergency-[0-9a-f]{64}\b",
    re.IGNORECASE,
)
_LONGEST = 400


def clean(value: Any) -> Any:
    """The value without what looks like an address, a UUID or an emergency's id."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, str):
        return _PERSONAL.sub("[masked]", value)[:_LONGEST]
    return f"[{type(value).__name__}]"
