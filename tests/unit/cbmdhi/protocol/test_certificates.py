"""A certificate counts when a member's root issued it, while it is valid, for what it says."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.protocol import certificates, signature
from cbmdhi.protocol.certificates import Untrusted
from tests.support.fakes.fabric_blocks import Organisation
from tests.support.fakes.fabric_ca import Root

MERCY, LAKESIDE = Organisation("MercyMSP"), Organisation("LakesideMSP")
NOON = datetime.datetime(2026, 5, 4, 12, tzinfo=datetime.UTC)
PEER = certificates.parse_pem(MERCY.issue("peer", NOON).pem)


def ms(at: datetime.datetime) -> int:
    return round(at.timestamp() * 1000)


def test_a_certificate_is_one_of_its_own_members_root() -> None:
    certificates.check_issued(PEER, MERCY.pem)
    certificates.check_issued(PEER, LAKESIDE.pem + MERCY.pem)
    for roots in (LAKESIDE.pem, Organisation("MercyMSP").pem):
        with pytest.raises(Untrusted):
            certificates.check_issued(PEER, roots)


def test_a_root_with_a_key_of_another_kind_hides_none_of_those_after_it() -> None:
    certificates.check_issued(PEER, of_rsa("MercyMSP").public_bytes(Encoding.PEM).decode() + MERCY.pem)


def test_a_certificate_is_taken_from_its_first_moment_to_its_last() -> None:
    first, last = PEER.not_valid_before_utc, PEER.not_valid_after_utc

    for at in (ms(first), ms(NOON), ms(last)):
        certificates.check_issued(PEER, MERCY.pem, at_ms=at)
    for at in (ms(first) - 1, ms(last) + 1):
        with pytest.raises(Untrusted):
            certificates.check_issued(PEER, MERCY.pem, at_ms=at)


def test_a_client_of_a_member_is_not_taken_for_its_peer() -> None:
    certificates.check_issued(PEER, MERCY.pem, unit="peer")
    with pytest.raises(Untrusted):
        certificates.check_issued(PEER, MERCY.pem, unit="orderer")
    with pytest.raises(Untrusted):
        certificates.check_issued(certificates.parse_pem(MERCY.issue("client").pem), MERCY.pem, unit="peer")
    # A name is no unit, whatever it is.
    named = Root.new("MercyMSP").issue("peer", signature.new_private_key().public_key())
    with pytest.raises(Untrusted):
        certificates.check_issued(named, MERCY.pem, unit="peer")


def test_its_name_is_its_common_name_or_nothing() -> None:
    assert certificates.common_name(PEER) == "peer0"
    assert certificates.common_name(of_rsa(None)) == ""


def test_a_key_that_signs_otherwise_is_no_key_here() -> None:
    assert certificates.public_key(PEER) == PEER.public_key()
    with pytest.raises(Untrusted):
        certificates.public_key(of_rsa("MercyMSP"))


def of_rsa(name: str | None) -> x509.Certificate:
    """A root with a key that nobody uses here."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([] if name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = (
        builder.serial_number(1).not_valid_before(NOON).not_valid_after(NOON + datetime.timedelta(days=1))
    )
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize("at_ms", [1 << 63, -(1 << 63), (1 << 63) * 1000, 253_402_300_800_000])
def test_a_time_that_no_calendar_knows_is_none_of_its_validity(at_ms: int) -> None:
    """A service says when a peer signed: it may say anything."""
    with pytest.raises(Untrusted):
        certificates.check_issued(PEER, MERCY.pem, at_ms=at_ms)


def test_a_certificate_of_a_version_that_nobody_knows_is_none() -> None:
    der = PEER.public_bytes(Encoding.DER)
    of_version_9 = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x08", 1)
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(of_version_9) + b"-----END CERTIFICATE-----\n"

    assert certificates.parse_der(der) == PEER
    for parse, raw in (
        (certificates.parse_der, of_version_9),
        (certificates.parse_der, b"\x30\x00"),
        (certificates.parse_pem, pem),
        (certificates.parse_roots, MERCY.pem + pem.decode()),
        (certificates.parse_roots, ""),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - the words are of the library
            parse(raw)  # type: ignore[operator]
