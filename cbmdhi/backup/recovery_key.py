"""The recovery key pair: the public half lies where backups are made, the private half far from them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cbmdhi.backup.errors import BackupError
from cbmdhi.protocol import hpke

_PRIVATE = "cbmdhi recovery key, private: keep it away from the member and its backups"
_PUBLIC = "cbmdhi recovery key, public: backups are sealed to it"
_LONGEST = 10_000


def make(file: Path) -> Path:
    """Make a pair: the private key to `file` (mode 0600), the public one beside it; the latter's path.

    Raises:
        BackupError: there is such a file already.
    """
    public_file = file.with_name(file.name + ".pub")
    private, public = hpke.generate()
    for path, title, key, mode in (
        (file, _PRIVATE, private, 0o600),
        (public_file, _PUBLIC, public, 0o644),
    ):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as exc:
            raise BackupError(
                f"{path} is there already.", "Name another file: whoever loses a key loses its backups."
            ) from exc
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{title}\n{key.hex()}\n")
    return public_file


def public(file: Path) -> bytes:
    """The public key in a file.

    Raises:
        BackupError: it holds none; or the private key, which has no business where backups are made.
    """
    title, key = _read(file)
    if title == _PRIVATE:
        raise BackupError(
            f"{file} is the private recovery key: with it beside the member, a thief opens the backups too.",
            f"Give the public one ({file.name}.pub), and take the private one off this machine.",
        )
    if title != _PUBLIC or len(key) != hpke.PUBLIC_KEY_BYTES:
        raise BackupError(f"{file} is no public recovery key.", "Make one: cbmdhi recovery-key FILE")
    return key


def private(file: Path) -> bytes:
    """The private key in a file.

    Raises:
        BackupError: it holds none.
    """
    title, key = _read(file)
    if title != _PRIVATE or len(key) != hpke.PRIVATE_KEY_BYTES:
        raise BackupError(
            f"{file} is no private recovery key.", "Give the file that `cbmdhi recovery-key` made, not .pub."
        )
    return key


def fingerprint(public_key: bytes) -> str:
    """Sixteen hexadecimal digits by which people compare recovery keys."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _read(file: Path) -> tuple[str, bytes]:
    try:
        with file.open(encoding="utf-8") as stream:
            title, _, rest = stream.read(_LONGEST).partition("\n")
        return title, bytes.fromhex(rest)
    except OSError as exc:
        raise BackupError(
            f"{file} cannot be read: {exc.strerror}.", "Make a key: cbmdhi recovery-key FILE"
        ) from exc
    except ValueError:
        return "", b""
