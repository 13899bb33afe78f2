"""What backups are sealed to and signed with: three files of one making.

    FILE       private: opens backups, and says by whose signature alone; kept far from the member
    FILE.pub   public: backups are sealed to it
    FILE.sign  secret of the member: backups are signed with it. It opens none

A public key alone makes nothing that a restore would take.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from cbmdhi.protocol import hpke, signature
from ops.backup.errors import BackupError

_PRIVATE = "cbmdhi recovery key, private: keep it away from the member and its backups"
_PUBLIC = "cbmdhi recovery key, public: backups are sealed to it"
_SIGNING = "cbmdhi backup signing key, secret: backups are signed with it; it opens none"
_LONGEST = 20_000


@dataclass(frozen=True)
class Recipient:
    """Who a backup is made for: the key that it is sealed to, and the one that it is signed with for them."""

    public: bytes
    signing: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Of the public key."""
        return fingerprint(self.public)


@dataclass(frozen=True)
class Recovery:
    """The owner's half: what opens a backup, and the key (SPKI) whose signature it must bear."""

    private: bytes = field(repr=False)
    signer: bytes

    @property
    def fingerprint(self) -> str:
        """Of the public key."""
        return fingerprint(hpke.public_of(self.private))


def make(file: Path) -> Path:
    """Make the three: the private key to `file`, the others beside it; the public one's path.

    Raises:
        BackupError: there is such a file already.
    """
    public_file = file.with_name(file.name + ".pub")
    private, public = hpke.generate()
    signing = signature.new_private_key()
    signer = signature.spki(signing.public_key())
    secret = signing.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for path, title, mode, *keys in (
        (file, _PRIVATE, 0o600, private, signer),
        (signing_file(public_file), _SIGNING, 0o600, secret),
        (public_file, _PUBLIC, 0o644, public),
    ):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as exc:
            raise BackupError(
                f"{path} is there already.", "Name another file: whoever loses a key loses its backups."
            ) from exc
        with os.fdopen(descriptor, "w") as stream:
            stream.write("\n".join([title, *(key.hex() for key in keys), ""]))
    return public_file


def signing_file(public_file: Path) -> Path:
    """The signing key's place, beside the public one."""
    return public_file.with_name(public_file.name.removesuffix(".pub") + ".sign")


def recipient(file: Path) -> Recipient:
    """The public key in a file, with the signing key beside it.

    Raises:
        BackupError: they are not there; or it is the private key, which is not to lie where backups are made.
    """
    title, keys = _read(file)
    if title == _PRIVATE:
        raise BackupError(
            f"{file} is the private recovery key: with it beside the member, a thief opens the backups too.",
            f"Give the public one ({file.name}.pub), and take the private one off this machine.",
        )
    if title != _PUBLIC or [len(key) for key in keys] != [hpke.PUBLIC_KEY_BYTES]:
        raise BackupError(f"{file} is no public recovery key.", "Make one: cbmdhi recovery-key FILE")
    return Recipient(keys[0], _signing(signing_file(file)))


def recovery(file: Path) -> Recovery:
    """The private key in a file, and who signs for it.

    Raises:
        BackupError: it holds none.
    """
    title, keys = _read(file)
    if title != _PRIVATE or len(keys) != 2 or len(keys[0]) != hpke.PRIVATE_KEY_BYTES:
        raise BackupError(
            f"{file} is no private recovery key.", "Give the file that `cbmdhi recovery-key` made, not .pub."
        )
    return Recovery(*keys)


def fingerprint(public_key: bytes) -> str:
    """Sixteen hexadecimal digits by which people compare recovery keys."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _signing(file: Path) -> ec.EllipticCurvePrivateKey:
    title, keys = _read(file)
    try:
        key = load_der_private_key(keys[0], None) if title == _SIGNING and keys else None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BackupError(
            f"{file} is no signing key of backups.", "Bring FILE.sign that `cbmdhi recovery-key FILE` made."
        )
    return key


def _read(file: Path) -> tuple[str, list[bytes]]:
    try:
        with file.open(encoding="utf-8") as stream:
            title, *rest = stream.read(_LONGEST).splitlines()
        return title, [bytes.fromhex(line) for line in rest]
    except OSError as exc:
        raise BackupError(
            f"{file} cannot be read: {exc.strerror}.", "Make the keys: cbmdhi recovery-key FILE"
        ) from exc
    except ValueError:
        return "", []
