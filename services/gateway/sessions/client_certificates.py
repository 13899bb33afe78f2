"""Whose client certificate a connection shows: a person's or engine's, a member's service's, or none."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cbmdhi.protocol import certificates
from services.runtime.callers import PeerDirectory
from services.runtime.config import ClientCa

_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate that TLS has verified.

    name        common name: the address of a person or engine, the name of a service
    thumbprint  `x5t#S256`
    identity_of MSP id of the member whose CA for identities issued it; empty for a service
    service_of  MSP id of the member whose TLS CA issued it; empty for an identity
    """

    name: str
    thumbprint: str
    identity_of: str
    service_of: str


class ClientCertificates:
    """Knows the members' roots."""

    def __init__(self, identity_cas: Sequence[ClientCa], services: PeerDirectory) -> None:
        self._roots = [(ca.msp_id, ca.ca_file.read_text(encoding="ascii")) for ca in identity_cas]
        self._services = services
        self.of_pem = lru_cache(maxsize=_CACHED)(self._of_pem)
        """The certificate that a connection shows, as PEM."""

    @property
    def identity_roots_pem(self) -> bytes:
        """All roots of CAs for identities."""
        return "\n".join(pem for _, pem in self._roots).encode()

    def _of_pem(self, pem: bytes) -> ClientCertificate:
        certificate = x509.load_pem_x509_certificate(pem)
        digest = certificate.fingerprint(hashes.SHA256())
        thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        name = certificates.common_name(certificate)
        for msp_id, roots in self._roots:
            try:
                certificates.check_issued(certificate, roots)
            except certificates.Untrusted:
                continue
            return ClientCertificate(name, thumbprint, msp_id, "")
        service = self._services.identify(pem)
        if service is not None:
            return ClientCertificate(service.service, thumbprint, "", service.msp_id)
        return ClientCertificate(name, thumbprint, "", "")
