"""An encrypted, signed stream that shows when it was cut, changed or is none: constant memory both ways.

    magic, number of recipients (1 byte), for each the HPKE-sealed file secret (1,168 bytes)
    for each recipient the signature over all of that: its length (1 byte), ECDSA P-256 (DER)
    chunks of 1 MiB, AES-256-GCM (16 bytes more each); the nonce counts them and marks the last one

The key of the chunks is derived from the file secret and the header, so that neither can be exchanged: who
made the chunks of a signed header had its secret, which is the signer's and the recipients' alone. The
signature is checked before anything else is read.
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

from cbmdhi.protocol import hpke, signature
from ops.backup.errors import BackupError
from ops.backup.recovery_key import Recipient, Recovery

_MAGIC = b"cbmdhi backup 2\n"
_SECRET_BYTES = 32
_SEALED_BYTES = _SECRET_BYTES + 1136
_CHUNK = 1 << 20
_TAG = 16


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object: ...


class SealedWriter:
    """Write to it, then `finish`. Whatever is not finished is no backup."""

    def __init__(self, out: Sink, recipients: Sequence[Recipient]) -> None:
        """`recipients`: each opens the backup alone, and believes its own signing key alone."""
        if not recipients:
            raise BackupError(
                "A backup needs a recovery key to be sealed to.",
                "Make one (cbmdhi recovery-key FILE) and give FILE.pub with --to.",
            )
        secret = secrets.token_bytes(_SECRET_BYTES)
        header = _MAGIC + bytes([len(recipients)])
        for one in recipients:
            header += hpke.seal(one.public, secret, hpke.BACKUP_KEY)
        signed = [signature.sign(one.signing, signature.BACKUP, header) for one in recipients]
        header += b"".join(bytes([len(each)]) + each for each in signed)
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

    Raises BackupError: foreign, cut or changed bytes, another recovery key, or not signed for it.
    """

    def __init__(self, source: BinaryIO, recovery: Recovery) -> None:
        self._source = source
        header = self._exactly(len(_MAGIC) + 1)
        if header[: len(_MAGIC)] != _MAGIC:
            raise BackupError(
                "This is not a backup that cbmdhi made, or one of a newer version.",
                "Give the file or object that `cbmdhi backup` wrote.",
            )
        sealed = [self._exactly(_SEALED_BYTES) for _ in range(header[-1])]
        signed = [self._exactly(int.from_bytes(self._exactly(1))) for _ in sealed]
        header += b"".join(sealed)
        place, secret = _open(sealed, recovery)
        _check_signed(header, signed[place], recovery)
        header += b"".join(bytes([len(each)]) + each for each in signed)
        self._cipher = _cipher(secret, header)
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


def _check_signed(header: bytes, signed: bytes, recovery: Recovery) -> None:
    try:
        signature.verify(signature.load_public_key(recovery.signer), signed, signature.BACKUP, header)
    except (signature.BadSignature, ValueError) as exc:
        raise BackupError(
            "The backup is sealed to this recovery key, but the member did not sign it: somebody else made "
            "it, or its beginning was changed. Nothing of it was used.",
            "Take one that the member made; find out who put this one there.",
        ) from exc


def _open(sealed: Sequence[bytes], recovery: Recovery) -> tuple[int, bytes]:
    """Whose place it is, and the file secret."""
    for place, each in enumerate(sealed):
        try:
            return place, hpke.open(recovery.private, each, hpke.BACKUP_KEY)
        except hpke.CannotOpen:
            continue
    raise BackupError(
        f"The backup is not sealed to this recovery key ({recovery.fingerprint}), or its beginning was "
        "changed.",
        "Give the private key of the --to key that it was made with.",
    )


def _cipher(secret: bytes, header: bytes) -> AESGCM:
    info = b"cbmdhi/backup-chunks/v1" + hashlib.sha256(header).digest()
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(secret))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
