"""Sessions: to which key a token is bound, who gets one, and what it says (RFC 7800, 8705, 9449)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from cbmdhi.protocol import address as addresses
from services.runtime.refusal import Refused

MOST_DELEGATION_BYTES = 3 * 1024
"""Twice in base64 it fits with the rest of a token into one header of 8 kB."""
_THUMBPRINT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Binding:
    """The key that a token is bound to: `jkt` (DPoP) or `x5t#S256` (client certificate)."""

    method: str
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Subject:
    """Who logs in, as the channel has it."""

    address: str
    role: str
    msp: str
    active: bool


def check_address(address: str) -> None:
    """Raises Refused INVALID."""
    if not addresses.is_address(address):
        raise Refused.invalid("not an address: cb1 and 32 characters of base32", "address")


def binding_of(dpop_jkt: str, certificate_x5t_s256: str) -> Binding:
    """The one thumbprint that is set. Raises Refused INVALID for none, both, or a malformed one."""
    if bool(dpop_jkt) == bool(certificate_x5t_s256):
        raise Refused.invalid(
            "a token is bound to one key: give the thumbprint of the DPoP key or of the client certificate",
            "dpop_jkt",
        )
    method, path, thumbprint = (
        ("jkt", "dpop_jkt", dpop_jkt)
        if dpop_jkt
        else ("x5t#S256", "certificate_x5t_s256", certificate_x5t_s256)
    )
    if not _is_thumbprint(thumbprint):
        raise Refused.invalid("a thumbprint is SHA-256 in base64url without padding: 43 characters", path)
    return Binding(method, thumbprint)


def check_active(subject: Subject) -> None:
    """Raise Refused INACTIVE_SIGNER unless the identity is active. To be asked after the signature."""
    if not subject.active:
        raise Refused.inactive_signer(
            "this identity is not active (waiting for review, rejected or suspended); ask its hospital"
        )


def claims(
    issuer: str, subject: Subject, binding: Binding, token_id: str, now_seconds: int, lifetime_seconds: int
) -> dict[str, Any]:
    """The claims of a token, valid for a time and only with the bound key."""
    return {
        "iss": issuer,
        "sub": subject.address,
        "role": subject.role,
        "msp": subject.msp,
        "cnf": {binding.method: binding.thumbprint},
        "iat": now_seconds,
        "exp": now_seconds + lifetime_seconds,
        "jti": token_id,
    }


def _is_thumbprint(text: str) -> bool:
    if len(text) != 43 or not text.isascii():
        return False
    try:
        raw = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except binascii.Error:
        return False
    # One text for one key: the last character has only four bits.
    return len(raw) == _THUMBPRINT_BYTES and base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text
