"""A gateway that says what it likes about who calls."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.protocol import signature
from services.runtime.callers import Caller, PeerDirectory, caller_metadata, current_directory
from tests.support.fakes.fabric_ca import Root


class FakeContext:
    """What a servicer sees of a call: the peer's certificate and the metadata."""

    def __init__(self, certificate_pem: bytes, metadata: tuple[tuple[str, str], ...]) -> None:
        self._certificate_pem = certificate_pem
        self._metadata = metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._certificate_pem]}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


class Gateway:
    """A member's gateway, by its certificate."""

    def __init__(self, msp_id: str) -> None:
        self._root = Root.new("tls")
        self._directory = PeerDirectory(msp_id, {msp_id: [self._root.certificate]})
        certificate = self._root.issue("gateway", signature.new_private_key().public_key())
        self._pem = certificate.public_bytes(Encoding.PEM)

    def says(self, address: str = "", role: str = "patient") -> Any:
        """A call of somebody's, as the gateway has it."""
        current_directory.set(self._directory)
        msp_id = self._directory.own_msp_id
        return FakeContext(self._pem, caller_metadata(Caller(address, role, msp_id)) if address else ())
