"""The wallet keeps its keys to itself and says what is wrong in a sentence."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cbmdhi.client import Client
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import Misuse, WalletError
from cbmdhi.protocol import address, command
from cbmdhi.wallet import Wallet


@pytest.fixture
def consortium(tmp_path: Path) -> Path:
    gateway = {"grpc": "127.0.0.1:1", "first_contact": "127.0.0.1:2", "rest": "https://127.0.0.1:3"}
    member = {
        "msp_id": "MercyMSP",
        "name": "mercy",
        "ca_pem": "",
        "tls_ca_pem": "",
        "vault_public_key": "",
        "gateway": gateway,
    }
    document = {
        "version": 1,
        "channel": "cbmdhi",
        "genesis_sha256": "ab" * 32,
        "chaincode": "cbmdhi",
        "members": [member],
        "orderers": [{"msp_id": "OrderingMSP", "ca_pem": "", "tls_ca_pem": ""}],
    }
    path = tmp_path / "consortium.json"
    path.write_text(json.dumps(document))
    return path


def test_a_wallet_that_is_opened_again_is_the_same_identity(tmp_path: Path, consortium: Path) -> None:
    made = Wallet.create(tmp_path / "w", consortium, "mercy", pb.ROLE_CLINICIAN)
    opened = Wallet.load(tmp_path / "w")
    assert (opened.address, opened.role, opened.member) == (made.address, pb.ROLE_CLINICIAN, "MercyMSP")
    assert opened.hpke_private == made.hpke_private


def test_only_the_owner_can_read_the_keys(tmp_path: Path, consortium: Path) -> None:
    Wallet.create(tmp_path / "w", consortium, "mercy")
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "w" / "keys.json").stat().st_mode) == 0o600


def test_a_passphrase_keeps_the_keys_from_being_read_in_clear(tmp_path: Path, consortium: Path) -> None:
    made = Wallet.create(tmp_path / "w", consortium, "mercy", passphrase="correct horse")
    assert made.hpke_private.hex() not in (tmp_path / "w" / "keys.json").read_text()
    assert Wallet.load(tmp_path / "w", "correct horse").address == made.address
    for wrong, says in (("", "CBMDHI_WALLET_PASSPHRASE"), ("wrong", "does not open")):
        with pytest.raises(WalletError, match=says):
            Wallet.load(tmp_path / "w", wrong)


def test_a_second_wallet_never_overwrites_the_first(tmp_path: Path, consortium: Path) -> None:
    first = Wallet.create(tmp_path / "w", consortium, "mercy")
    with pytest.raises(WalletError, match="already"):
        Wallet.create(tmp_path / "w", consortium, "mercy")
    assert Wallet.load(tmp_path / "w").address == first.address


@pytest.mark.parametrize("dies_before", ["mkdir", "chmod", "write_text", "fsync"])
def test_a_wallet_whose_making_was_cut_short_can_be_made_again(
    dies_before: str, tmp_path: Path, consortium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os if dies_before == "fsync" else Path, dies_before, cut_short)
        with pytest.raises(KeyboardInterrupt):
            Wallet.create(tmp_path / "w", consortium, "mercy")
    assert not (tmp_path / "w" / "keys.json").exists()
    made = Wallet.create(tmp_path / "w", consortium, "mercy")
    assert Wallet.load(tmp_path / "w").address == made.address


def test_a_certificate_is_kept_whole_or_not_at_all(
    tmp_path: Path, consortium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = Wallet.create(tmp_path / "w", consortium, "mercy")
    wallet.keep_certificate("the first")
    write = Path.write_text

    def half(path: Path, text: str) -> None:
        write(path, text[:4])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        wallet.keep_certificate("the second")
    assert (tmp_path / "w" / "certificate.pem").read_text() == "the first"


def test_mistakes_are_told_with_the_remedy(tmp_path: Path, consortium: Path) -> None:
    with pytest.raises(WalletError, match="wallet create"):
        Wallet.load(tmp_path / "nothing")
    with pytest.raises(Misuse, match="there are: mercy"):
        Wallet.create(tmp_path / "w", consortium, "merci")
    with pytest.raises(WalletError, match="consortium file"):
        Wallet.create(tmp_path / "w", tmp_path / "missing.json", "mercy")


def test_a_folder_is_named_by_text_or_by_a_path_as_everywhere_in_python(
    tmp_path: Path, consortium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Wallet.create(str(tmp_path / "w"), str(consortium), "mercy")
    assert made.folder == tmp_path / "w"
    for folder in (tmp_path / "w", str(tmp_path / "w"), "~/w"):
        assert Wallet.load(folder).address == made.address


def test_what_is_wrong_with_a_wallet_is_said_and_not_guessed(tmp_path: Path, consortium: Path) -> None:
    Wallet.create(tmp_path / "wallets" / "anna", consortium, "mercy")
    for folder, says in (
        (tmp_path / "nothing", "there is no folder .*looked from"),
        (consortium, "is a file: a wallet is a folder"),
        (tmp_path / "wallets", "but in it: anna"),
    ):
        with pytest.raises(WalletError, match=says):
            Wallet.load(folder)
    keys = tmp_path / "wallets" / "anna" / "keys.json"
    for content, says in (
        ("{}", "holds no keys"),
        ('{"keys": {}}', "lacks 'signing_key_pem'"),
        ("[", "cannot be read"),
        (None, "keys.json is missing"),
    ):
        keys.unlink()
        if content is not None:
            keys.write_text(content)
            keys.chmod(0o600)
        with pytest.raises(WalletError, match=says):
            Wallet.load(tmp_path / "wallets" / "anna")
        keys.touch()


def test_the_certificate_request_names_the_address_and_no_person(tmp_path: Path, consortium: Path) -> None:
    wallet = Wallet.create(tmp_path / "w", consortium, "mercy")
    request = x509.load_pem_x509_csr(wallet.certificate_request().encode())
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == [wallet.address]
    assert len(list(request.subject)) == 1
    assert address.of_public_key(request.public_key()) == wallet.address  # type: ignore[arg-type]


def test_a_signed_command_verifies_under_the_registered_key(tmp_path: Path, consortium: Path) -> None:
    wallet = Wallet.create(tmp_path / "w", consortium, "mercy")
    signed = wallet.sign_command(command.make(pb.Access(), channel=wallet.consortium.signed_channel))
    command.verify(signed, wallet.spki)
    assert signed.signer == wallet.address


def test_no_key_shows_in_a_printed_wallet(tmp_path: Path, consortium: Path) -> None:
    wallet = Wallet.create(tmp_path / "w", consortium, "mercy")
    assert wallet.hpke_private.hex()[:16] not in repr(wallet)
    assert "PRIVATE" not in repr(wallet)


class Authority:
    """A member's CA, which certifies any key."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca.mercy")])
        root = self._built(self.name, self.key.public_key(), -1, 30)
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.root_pem = _pem(root.sign(self.key, hashes.SHA256()))

    def certify(self, key: ec.EllipticCurvePublicKey, from_days: int = -1, to_days: int = 30) -> str:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cb1")])
        return _pem(self._built(name, key, from_days, to_days).sign(self.key, hashes.SHA256()))

    def _built(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, from_days: int, to_days: int
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=from_days))
            .not_valid_after(now + timedelta(days=to_days))
        )


def _trust(authority: Authority, consortium: Path) -> None:
    document = json.loads(consortium.read_text())
    document["members"][0]["ca_pem"] = authority.root_pem
    consortium.write_text(json.dumps(document))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


async def test_a_certificate_that_no_gateway_takes_is_refused_here_with_what_to_do(
    tmp_path: Path, consortium: Path
) -> None:
    """The gateway would end the connection without a word: it looked as if it could not be reached."""
    authority, stranger = Authority(), Authority()
    _trust(authority, consortium)
    wallet = Wallet.create(tmp_path / "w", consortium, "mercy")
    key = wallet.private_key.public_key()
    wrong = {
        "not enrolled": "",
        "cannot be read": "{}",
        "of another key": authority.certify(stranger.key.public_key()),
        "ended on": authority.certify(key, -30, -1),
        "clock right": authority.certify(key, 1, 30),
        "no member of this wallet's consortium": stranger.certify(key),
    }
    for says, certificate in wrong.items():
        wallet.certificate_pem = certificate
        async with Client(wallet) as client:
            with pytest.raises(WalletError, match=says):
                _ = client.connection.authenticated
    wallet.certificate_pem = authority.certify(key)
    async with Client(wallet) as client:
        assert client.connection.authenticated is not None
