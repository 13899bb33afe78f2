"""Keys, times and signatures that are the same for ever: made anew, the vectors are the same."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import address, hpke, signature
from cbmdhi.protocol.channel import Channel
from tests.support.fakes.fabric_blocks import Chance

CHANNEL = Channel("cbmdhi", hashlib.sha256(b"an agreed beginning").digest())
AT_MS = 1_790_000_000_000
_ID = "0199c82c-c000-7000-8000-{:012x}"

Vectors = dict[str, Any]


def uuid(number: int) -> str:
    """An id: the number is its last part."""
    return _ID.format(number)


def key(number: int) -> ec.EllipticCurvePrivateKey:
    """A key that anybody can derive: the private value is the number."""
    return ec.derive_private_key(number, ec.SECP256R1())


def hpke_private(number: int) -> bytes:
    """An HPKE private key, counted up from a number: a seed of ML-KEM-768 (64 bytes), an X25519 key (32)."""
    return bytes((number + place) % 256 for place in range(hpke.PRIVATE_KEY_BYTES))


def sign(private: ec.EllipticCurvePrivateKey, label: str, *parts: bytes) -> bytes:
    """A deterministic signature (RFC 6979) with low s."""
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return signature.low_s(private.sign(label.encode() + b"\x00" + b"".join(parts), algorithm))


def signed(
    private: ec.EllipticCurvePrivateKey, raw: bytes, delegation: pb.SignedDelegation | None = None
) -> pb.SignedCommand:
    """A command with its signature, and the delegation within which a device signs."""
    return pb.SignedCommand(
        command=raw,
        signature=sign(private, signature.COMMAND, raw),
        signer=address.of_public_key(private.public_key()),
        delegation=delegation,
    )


def same(raw: Any) -> bytes:
    """A message in its one serialization."""
    return raw.SerializeToString(deterministic=True)


def kept(
    before: Mapping[str, Any], opens_as: bytes, opened: Callable[[bytes], bytes], sealed: Callable[[], bytes]
) -> str:
    """What was sealed before, in hex, where it opens still, since nobody can seal the same twice; else anew.

    before    the entry that stands in the file, with `sealed_hex`
    opens_as  what has to be in it
    """
    there = bytes.fromhex(str(before.get("sealed_hex", "")))
    try:
        if there and opened(there) == opens_as:
            return there.hex()
    except hpke.CannotOpen:
        pass
    return sealed().hex()


class Fixed(Chance):
    """A network whose keys, nonces, serial numbers and time are counted."""

    same_signatures = True

    def __init__(self, first_key: int) -> None:
        self._next = first_key

    def _count(self) -> int:
        self._next += 1
        return self._next

    def key(self) -> ec.EllipticCurvePrivateKey:
        return key(self._count())

    def bytes(self, count: int) -> bytes:
        return hashlib.shake_256(self._count().to_bytes(4, "big")).digest(count)

    def serial(self) -> int:
        return self._count()

    def now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(AT_MS / 1000, datetime.UTC)
