"""Configuration of the identity service."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from services.runtime import certificates
from services.runtime.config import Address, ReadableFile, RootsFile, Section, SignedChannelConfig


class Member(Section):
    """A member, the address of its gateway, and the roots of its Fabric CA for identities (PEM)."""

    msp_id: str
    gateway_address: Address
    fabric_ca_file: RootsFile


class IdentityConfig(SignedChannelConfig):
    """Settings of the identity service, besides those of every service."""

    service_name: ClassVar[str] = "identity"

    ledger_address: Address
    storage_address: Address
    fabric_ca_url: str
    """`https://host:port` of the member's Fabric CA."""
    fabric_ca_tls_file: RootsFile
    """PEM root of the CA's TLS certificate. No other is trusted."""
    fabric_ca_name: str = "ca"
    registrar_certificate_file: ReadableFile
    registrar_key_file: ReadableFile
    token_key_file: ReadableFile
    """P-256 private key, PEM; the same for all replicas."""
    gateway_device_address_file: ReadableFile
    """The address of the gateway's device, as text. Delegations name it."""
    members: tuple[Member, ...] = Field(min_length=1)
    """Every member, the own one included: the gateways of the others are asked for their CAs' revocations."""
    revocations_every_seconds: float = Field(default=1.0, gt=0, le=2)
    """Interval of the questions to the own CA and to each other member."""
    enrolments_at_once: int = Field(default=200, ge=1)
    """Largest burst of enrolments that a replica takes; patients and invited people are counted apart.

    The gateway limits each source, so that none can use this up alone.
    """
    enrolments_per_minute: float = Field(default=600, gt=0)
    """Enrolments on average. Each costs the CA two password hashes, about 0.25 s of one core."""

    logins_at_once: int = Field(default=60, ge=1)
    logins_per_minute: float = Field(default=60, gt=0)
    """Of one identity, whose signature holds."""
    token_seconds: int = Field(default=300, ge=2, le=300)
    """For which a token is good. Who goes on logs in again before: twice as often with half of it. Gateways
    remember for no longer which sessions were logged out."""

    @field_validator("fabric_ca_url")
    @classmethod
    def _https_alone(cls, url: str) -> str:
        if not url.startswith("https://"):
            raise ValueError("secrets travel to the Fabric CA: the URL must begin with https://")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _registrar_is_one(self) -> Self:
        certificates.check_pair(self.registrar_certificate_file, self.registrar_key_file)
        return self
