"""Certificates for tests: wallets, roots, and a certificate authority that behaves as Fabric CA does."""

from __future__ import annotations

import asyncio
import datetime
import json
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import signature
from services.identity.domain.certificate import ATTRIBUTES_OID
from services.identity.fabric_ca import UNLIMITED, Enrolment, Registered
from services.runtime.errors import MeshError


def name_of(common_name: str, *more: x509.NameAttribute[str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name), *more])


@dataclass(frozen=True)
class Wallet:
    """A key, its address, and a request for a certificate that it signed."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=signature.new_private_key)

    @property
    def address(self) -> str:
        return addresses.of_public_key(self.key.public_key())

    @property
    def spki(self) -> bytes:
        return signature.spki(self.key.public_key())

    def csr(self, common_name: str = "", *more: x509.NameAttribute[str]) -> str:
        name = name_of(common_name or self.address, *more)
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())
        return request.public_bytes(Encoding.PEM).decode()


@dataclass(frozen=True)
class Root:
    """A root that issues."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, common_name: str) -> Root:
        key = signature.new_private_key()
        name = name_of(common_name)
        builder = _builder(name, name, key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(
        self, common_name: str, key: ec.EllipticCurvePublicKey, role: str = "", hosts: tuple[str, ...] = ()
    ) -> x509.Certificate:
        builder = _builder(name_of(common_name), self.certificate.subject, key)
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        if role:
            attributes = json.dumps({"attrs": {"cbmdhi.role": role}}, separators=(",", ":")).encode()
            builder = builder.add_extension(
                x509.UnrecognizedExtension(ATTRIBUTES_OID, attributes), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())


@dataclass
class Entry:
    role: str
    secret: str
    max_enrolments: int
    enrolled: int = 0


class FakeCa:
    """Ids, secrets and counts as Fabric CA keeps them; certificates by a root of its own."""

    def __init__(self) -> None:
        self.root = Root.new("ca of a test")
        self.ids: dict[str, Entry] = {}
        self.away = False
        self.meanwhile: list[str] = []
        """Addresses whose secret another replica replaces right before the next enrolment."""

    async def register(self, address: str, role: str, secret: str, max_enrolments: int) -> None:
        await self._answer()
        if address in self.ids:
            raise MeshError(code_pb2.CODE_CONFLICT, "the id is there")
        self.ids[address] = Entry(role, secret, max_enrolments)

    async def replace_secret(self, address: str, secret: str, max_enrolments: int) -> None:
        await self._answer()
        self.ids[address].secret = secret
        self.ids[address].max_enrolments = max_enrolments

    async def find(self, address: str) -> Registered | None:
        await self._answer()
        entry = self.ids.get(address)
        return None if entry is None else Registered(entry.role, entry.max_enrolments)

    async def enrol(self, address: str, secret: str, csr_pem: str) -> Enrolment:
        await self._answer()
        if address in self.meanwhile:
            self.meanwhile.remove(address)
            self.ids[address].secret = "of the other replica"
        entry = self.ids.get(address)
        used_up = (
            entry is not None
            and entry.max_enrolments not in (UNLIMITED,)
            and (entry.enrolled >= entry.max_enrolments)
        )
        if entry is None or entry.secret != secret or used_up:
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, "wrong or used secret", "secret")
        entry.enrolled += 1
        key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        issued = self.root.issue(address, key, entry.role)
        return Enrolment(issued.public_bytes(Encoding.PEM).decode(), self.root.pem)

    async def _answer(self) -> None:
        await asyncio.sleep(0)  # as a call over the network: others run in the meantime
        if self.away:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away", retry_after_ms=1000)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
