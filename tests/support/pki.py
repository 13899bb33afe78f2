"""TLS CAs of members and certificates of their services, for tests."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.runtime.config import Nats, Tls, TlsMember


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as PEM files."""

    certificate_file: Path
    key_file: Path


class MemberCa:
    """The TLS CA of one member."""

    def __init__(self, folder: Path, organisation: str) -> None:
        self.organisation = organisation
        self.msp_id = f"{organisation.capitalize()}MSP"
        self._folder = folder / organisation
        self._folder.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tlsca.{organisation}")])
        self._root = (
            _builder(name, name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = self._folder / "ca.pem"
        self.ca_file.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))

    def issue(self, service: str) -> Issued:
        """A certificate as a service of the member has it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, service)])
        names = [
            x509.DNSName("localhost"),
            x509.DNSName(f"{service}.{self.organisation}"),
            x509.IPAddress(ip_address("127.0.0.1")),
        ]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(name, self._root.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        issued = Issued(self._folder / f"{service}.pem", self._folder / f"{service}.key")
        issued.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        issued.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued


class Consortium:
    """Mercy and lakeside, with a TLS CA each."""

    def __init__(self, folder: Path) -> None:
        self.members = {name: MemberCa(folder, name) for name in ("mercy", "lakeside")}

    def tls(self, service: str, organisation: str = "mercy") -> Tls:
        """The TLS section of a service's configuration."""
        issued = self.members[organisation].issue(service)
        trusted = tuple(TlsMember(msp_id=ca.msp_id, ca_file=ca.ca_file) for ca in self.members.values())
        return Tls(certificate_file=issued.certificate_file, key_file=issued.key_file, members=trusted)

    def nats(self, url: str, service: str = "notify", organisation: str = "mercy") -> Nats:
        """The NATS section of a service's configuration."""
        member = self.members[organisation]
        issued = member.issue(service)
        return Nats(
            url=url,
            ca_file=member.ca_file,
            certificate_file=issued.certificate_file,
            key_file=issued.key_file,
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
