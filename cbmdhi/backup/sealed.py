"""An encrypted stream that shows when it was cut, changed or is none: constant memory both ways.

    magic, number of recipients (1 byte), for each the HPKE-sealed file secret (1,168 bytes)
    chunks of 1 MiB, AES-256-GCM (16 bytes more each); the nonce counts them and marks the last one

The key of the chunks is derived from the file secret and the header, so that neither can be exchanged.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cbmdhi.backup.errors import BackupError
from cbmdhi.backup.recovery_key import fingerprint
from cbmdhi.protocol import hpke

_MAGIC = b"cbmdhi backup 1\n"
_SECRET_BYTES = 32
_SEALED_BYTES = _SECRET_BYTES + 1136
_CHUNK = 1 << 20
_TAG = 16


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object: ...


class SealedWriter:
    """Write to it, then `finish`. Whatever is not finished is no backup."""

    def __init__(self, out: Sink, recipients: Sequence[bytes]) -> None:
        """`recipients`: public recovery keys, each of which opens the backup alone."""
        if not recipients:
            raise BackupError(
                "A backup needs a recovery key to be sealed to.",
                "Make one (cbmdhi recovery-key FILE) and give FILE.pub with --to.",
            )
        secret = secrets.token_bytes(_SECRET_BYTES)
        header = _MAGIC + bytes([len(recipients)])
        for public in recipients:
            header += hpke.seal(public, secret, hpke.BACKUP_KEY)
        out.write(header)
        self._out = out
        self._cipher = _cipher(secret, header)
        self._number = 0
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        """Take the bytes; all but the last chunk go out as they fill."""
        self._pending += data
        # Strictly more: the last chunk, marked as such, is never empty unless everything is.
        while len(self._pending) > _CHUNK:
            self._put(bytes(self._pending[:_CHUNK]), last=False)
            del self._pending[:_CHUNK]
        return len(data)

    def finish(self) -> None:
        """Write the last chunk."""
        self._put(bytes(self._pending), last=True)
        self._pending.clear()

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._out.write(self._cipher.encrypt(_nonce(self._number, last), chunk, None))
        self._number += 1


class SealedReader:
    """Reads what SealedWriter wrote.

    Raises BackupError: foreign, cut or changed bytes, or another recovery key.
    """

    def __init__(self, source: BinaryIO, private_key: bytes) -> None:
        self._source = source
        header = self._exactly(len(_MAGIC) + 1)
        if header[: len(_MAGIC)] != _MAGIC:
            raise BackupError(
                "This is not a backup that cbmdhi made, or one of a newer version.",
                "Give the file or object that `cbmdhi backup` wrote.",
            )
        sealed = [self._exactly(_SEALED_BYTES) for _ in range(header[-1])]
        self._cipher = _cipher(_open(sealed, private_key), header + b"".join(sealed))
        self._number = 0
        self._ahead = self._exactly(_CHUNK + _TAG)
        self._ready = bytearray()
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end; -1: the rest."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            self._next()
        taken = bytes(self._ready[:size]) if size >= 0 else bytes(self._ready)
        del self._ready[: len(taken)]
        return taken

    def _next(self) -> None:
        chunk, self._ahead = self._ahead, self._exactly(_CHUNK + _TAG)
        last = not self._ahead
        try:
            self._ready += self._cipher.decrypt(_nonce(self._number, last), chunk, None)
        except (InvalidTag, ValueError) as exc:
            raise self._spoilt(last) from exc
        self._number += 1
        self._ended = last

    def _spoilt(self, last: bool) -> BackupError:
        where = f"after {self._number} MiB"
        what = "is cut off or was changed" if last else "was changed"
        return BackupError(
            f"The backup {what} {where}: nothing of it was used.", "Fetch it again, or take another backup."
        )

    def _exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only where the source ends."""
        parts: list[bytes] = []
        while size and (part := self._source.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _open(sealed: Sequence[bytes], private_key: bytes) -> bytes:
    for each in sealed:
        try:
            return hpke.open(private_key, each, hpke.BACKUP_KEY)
        except hpke.CannotOpen:
            continue
    mine = fingerprint(hpke.public_of(private_key))
    raise BackupError(
        f"The backup is not sealed to this recovery key ({mine}), or its beginning was changed.",
        "Give the private key of the --to key that it was made with.",
    )


def _cipher(secret: bytes, header: bytes) -> AESGCM:
    info = b"cbmdhi/backup-chunks/v1" + hashlib.sha256(header).digest()
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(secret))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
