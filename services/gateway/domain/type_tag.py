"""Of which FHIR type a record is, told to this member's gateways and to nobody else.

The channel shows a category and no type; from a closed list of 146 types a plain hash would be as good as the
name. Under a key of the gateways' own it says nothing, but that two of them differ.
"""

from __future__ import annotations

import hashlib
import hmac

_KEY = b"cbmdhi/type-tag/v1\x00"
_NAME_BYTES = 4
_TAG_BYTES = 12


class TypeTags:
    """Makes them. secret: what only this member's gateways know."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _KEY, "sha256")
        # So that tags under another key, such as that of a device enrolled anew, are not compared with these.
        self._name = hashlib.sha256(self._key).digest()[:_NAME_BYTES]

    def of(self, record_id: str, resource_type: str) -> bytes:
        """What goes into a PutRecord: 16 bytes."""
        said = f"{record_id}\x00{resource_type}".encode()
        return self._name + hmac.digest(self._key, said, "sha256")[:_TAG_BYTES]
