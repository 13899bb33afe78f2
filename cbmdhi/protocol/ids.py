"""UUIDv7 (RFC 9562): time-ordered ids, which keep the state database's tables in order. An EmergencyAccess
alone has another one, which follows from its content."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time

_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_EMERGENCY = re.compile(r"emergency-[0-9a-f]{64}")
_EMERGENCY_LABEL = b"cbmdhi/emergency-id/v1\x00"


class _Clock:
    """Millisecond and a counter within it, so that ids of one process ascend strictly."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms = 0
        self._counter = 0

    def tick(self) -> tuple[int, int]:
        """Give (Unix ms of 48 bits, counter of 12 bits)."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            if now > self._ms:
                self._ms, self._counter = now, secrets.randbits(11)
            elif self._counter < 0xFFF:
                self._counter += 1
            else:
                self._ms, self._counter = self._ms + 1, 0
            return self._ms, self._counter


_CLOCK = _Clock()


def uuid7() -> str:
    """A new UUIDv7 in canonical lower-case text, greater than every earlier one of this process."""
    ms, counter = _CLOCK.tick()
    value = (ms << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid7(text: str) -> bool:
    """True when `text` is a UUIDv7 in canonical lower-case text."""
    return _PATTERN.fullmatch(text) is not None


def emergency_id(signer: str, behind: bytes) -> str:
    """The command id of an EmergencyAccess, which nothing else can have.

    signer  the signer's address
    behind  the serialized Command without its id, as it stands behind the id
    """
    return "emergency-" + hashlib.sha256(_EMERGENCY_LABEL + signer.encode() + behind).hexdigest()


def is_command_id(text: str) -> bool:
    """True when `text` is a UUIDv7, or has the form of an emergency's id."""
    return is_uuid7(text) or _EMERGENCY.fullmatch(text) is not None
