"""The wallet: keys that never leave it, the certificate for them, and the consortium it trusts.

A folder of mode 0700: `wallet.json` and `consortium.json` (public), `keys.json` (0600; written last;
encrypted when there is a passphrase), `certificate.pem` once enrolled.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shlex
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import Misuse, WalletError
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import certificates, command, consortium, hpke, signature

_SCRYPT_N = 2**15

PathLike = str | os.PathLike[str]
"""A path, as text or as an object."""


@dataclass
class Wallet:
    """An identity's keys. Signs commands as it is, or inside a delegation as a device."""

    folder: Path
    member: str
    role: pb.Role
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    hpke_private: bytes = field(repr=False)
    consortium: consortium.Consortium = field(repr=False)
    certificate_pem: str = ""

    @classmethod
    def create(
        cls,
        folder: PathLike,
        consortium_file: PathLike,
        member: str,
        role: pb.Role = pb.ROLE_PATIENT,
        passphrase: str = "",
    ) -> Wallet:
        """Make new keys in a new folder.

        folder, consortium_file  as text or as a path; `~` is the home folder
        member                   name or MSP id of the member whose patient or staff it is
        passphrase               encrypts the keys in the folder (scrypt, AES-256-GCM); empty: in clear

        Raises WalletError when there is one already or the folder cannot be written, Misuse when there is no
        such member.

            anna = Wallet.create("anna", "consortium.json", "mercy", passphrase=getpass())
        """
        folder, consortium_file = _path(folder), _path(consortium_file)
        if (folder / "keys.json").exists():
            raise WalletError(f"there is a wallet in {folder} already; choose another folder")
        trusted = _consortium(consortium_file)
        try:
            home = trusted.member_named(member).msp_id
        except KeyError as error:
            raise Misuse(str(error.args[0])) from error
        private, (hpke_private, _) = signature.new_private_key(), hpke.generate()
        wallet = cls(folder, home, role, private, hpke_private, trusted)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            shutil.copyfile(consortium_file, folder / "consortium.json")
            wallet._write_public()
            # Last: whose making was cut short has no keys, and can be made again.
            _write_secret(folder / "keys.json", _seal_keys(wallet._key_document(), passphrase))
        except OSError as error:
            raise WalletError(f"the wallet cannot be written to {folder}: {error.strerror}") from error
        return wallet

    @classmethod
    def load(cls, folder: PathLike, passphrase: str = "") -> Wallet:
        """Open a wallet.

        folder  as text or as a path; `~` is the home folder

        Raises WalletError saying what is missing or wrong.

            engine = Wallet.load(".devnet/wallets/mercy-engine")
        """
        folder = _path(folder)
        if not (folder / "wallet.json").exists():
            raise WalletError(_no_wallet(folder))
        trusted = _consortium(folder / "consortium.json")
        try:
            public = json.loads((folder / "wallet.json").read_text())
            keys = _open_keys(json.loads((folder / "keys.json").read_text()), passphrase)
            certificate = folder / "certificate.pem"
            return cls(
                folder=folder,
                member=public["member"],
                role=cast(pb.Role, pb.Role.Value(public["role"])),
                private_key=signature.load_private_key(keys["signing_key_pem"].encode()),
                hpke_private=bytes.fromhex(keys["hpke_private_key"]),
                consortium=trusted,
                certificate_pem=certificate.read_text() if certificate.exists() else "",
            )
        except FileNotFoundError as error:
            raise WalletError(
                f"the wallet in {folder} has no keys: {Path(str(error.filename)).name} is missing. "
                "Bring it back from a backup; without its keys a wallet is of no use to anybody"
            ) from error
        except (KeyError, TypeError) as error:
            raise WalletError(
                f"the wallet in {folder} lacks {error}: its files are of something else, or were changed"
            ) from error
        except (OSError, ValueError) as error:
            raise WalletError(f"the wallet in {folder} cannot be read: {error}") from error

    @property
    def address(self) -> str:
        """The address on the channel."""
        return addresses.of_public_key(self.private_key.public_key())

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo of the signing key."""
        return signature.spki(self.private_key.public_key())

    @property
    def hpke_public(self) -> bytes:
        """The public key to which data keys are sealed; a patient's record key."""
        return hpke.public_of(self.hpke_private)

    @property
    def private_key_pem(self) -> bytes:
        """The signing key for a TLS handshake, unencrypted PKCS#8; never written by itself."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def certificate_thumbprint(self) -> str:
        """RFC 8705 x5t#S256 of the enrolment certificate. Raises WalletError before enrolment."""
        if not self.certificate_pem:
            raise WalletError(self._not_enrolled())
        der = x509.load_pem_x509_certificate(self.certificate_pem.encode()).public_bytes(Encoding.DER)
        return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

    def check_certificate(self) -> None:
        """Refuse a certificate that no gateway takes: it would end the connection without a word.

        Raises WalletError before enrolment, and for a certificate that cannot be read, is of another key, is
        not valid now by this machine's clock, or was issued by no member of the consortium.
        """
        if not self.certificate_pem:
            raise WalletError(self._not_enrolled())
        try:
            found = certificates.parse_pem(self.certificate_pem.encode())
        except ValueError as error:
            raise WalletError("the wallet's certificate cannot be read: enrol again") from error
        if found.public_key() != self.private_key.public_key():
            raise WalletError("the wallet's certificate is of another key: enrol again")
        begins, ends, now = found.not_valid_before_utc, found.not_valid_after_utc, datetime.now(UTC)
        if ends < now:
            raise WalletError(f"the wallet's certificate ended on {ends:%Y-%m-%d}: enrol again")
        if begins > now:
            when = f"{begins:%Y-%m-%d %H:%M} UTC"
            raise WalletError(f"the wallet's certificate begins at {when}: is this machine's clock right?")
        if not any(_is_issued_by(found, member.ca_pem) for member in self.consortium.members.values()):
            raise WalletError(
                "no member of this wallet's consortium issued its certificate: enrol again at the home member"
            )

    @property
    def delegation(self) -> None:
        """A wallet signs in person."""
        return None

    def sign_command(self, raw: bytes) -> pb.SignedCommand:
        """Sign a serialized command in person."""
        return command.KeySigner(self.private_key).sign_command(raw)

    def sign(self, label: str, *parts: bytes) -> bytes:
        """Sign something else than a command, under its label."""
        return signature.sign(self.private_key, label, *parts)

    def certificate_request(self) -> str:
        """PKCS#10 in PEM: the common name is the address, so it tells nothing about a person."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.address)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name)
        return request.sign(self.private_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def keep_certificate(self, pem: str) -> None:
        """Keep the certificate that the Fabric CA issued for this wallet's key."""
        self.certificate_pem = pem
        # Whole or not at all: half of one would be said to be broken.
        beside = self.folder / "certificate.pem.new"
        beside.write_text(pem)
        beside.replace(self.folder / "certificate.pem")

    def _not_enrolled(self) -> str:
        secret = "" if self.role == pb.ROLE_PATIENT else " --secret SECRET"
        typed = f"cbmdhi wallet enrol{secret} -w {shlex.quote(str(self.folder.resolve()))}"
        return f"this wallet is not enrolled yet: call registration.enrol(), or type: {typed}"

    def _key_document(self) -> dict[str, str]:
        return {"signing_key_pem": self.private_key_pem.decode(), "hpke_private_key": self.hpke_private.hex()}

    def _write_public(self) -> None:
        document = {
            "version": 1,
            "address": self.address,
            "member": self.member,
            "role": pb.Role.Name(self.role),
            "channel": self.consortium.channel,
        }
        (self.folder / "wallet.json").write_text(json.dumps(document, indent=2) + "\n")


def _is_issued_by(certificate: x509.Certificate, roots_pem: str) -> bool:
    try:
        certificates.check_issued(certificate, roots_pem)
    except (certificates.Untrusted, ValueError):
        return False
    return True


def _path(given: PathLike) -> Path:
    return Path(given).expanduser()


def _no_wallet(folder: Path) -> str:
    if not folder.exists():
        what = f"there is no folder {folder} (looked from {Path.cwd()})"
    elif not folder.is_dir():
        what = f"{folder} is a file: a wallet is a folder"
    else:
        within = sorted(one.parent.name for one in folder.glob("*/wallet.json"))
        what = f"no wallet in {folder}" + (f", but in it: {', '.join(within[:10])}" if within else "")
    typed = f"cbmdhi wallet create {shlex.quote(str(folder.absolute()))} -m MEMBER"
    return f"{what}; to make one with the consortium's file: {typed} --consortium FILE"


def _consortium(path: Path) -> consortium.Consortium:
    try:
        return consortium.load(path)
    except (OSError, ValueError) as error:
        why = f"{path}: {error.strerror or error}" if isinstance(error, OSError) else error
        raise WalletError(f"the consortium file cannot be read: {why}") from error


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise


def _derive(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=8, p=1).derive(passphrase.encode())


def _seal_keys(document: dict[str, str], passphrase: str) -> str:
    if not passphrase:
        return json.dumps({"version": 1, "keys": document}) + "\n"
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    sealed = AESGCM(_derive(passphrase, salt)).encrypt(
        nonce, json.dumps(document).encode(), b"cbmdhi/wallet/v1"
    )
    return json.dumps({"version": 1, "salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}) + "\n"


def _open_keys(document: dict[str, str], passphrase: str) -> dict[str, str]:
    if "keys" in document:
        return document["keys"]  # type: ignore[return-value]
    if "sealed" not in document:
        raise WalletError("the wallet's keys.json holds no keys: bring it back from a backup")
    if not passphrase:
        raise WalletError("the wallet has a passphrase: give it, or set CBMDHI_WALLET_PASSPHRASE")
    key = _derive(passphrase, bytes.fromhex(document["salt"]))
    try:
        plain = AESGCM(key).decrypt(
            bytes.fromhex(document["nonce"]), bytes.fromhex(document["sealed"]), b"cbmdhi/wallet/v1"
        )
    except InvalidTag as error:
        raise WalletError("the passphrase does not open the wallet") from error
    return json.loads(plain)
