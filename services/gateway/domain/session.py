"""What a token says, and to which key it is bound (RFC 7519, 7800, 8705, 9449)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, cast

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Delegation
from cbmdhi.protocol import address as addresses
from services.runtime.refusal import Refused

CERTIFICATE = "x5t#S256"
DPOP = "jkt"
_LEEWAY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who logged in.

    bound_by     `x5t#S256` (client certificate) or `jkt` (DPoP key)
    bound_to     that key's thumbprint
    expires_at   Unix seconds
    delegation   serialized Delegation and its signature: what the gateway's device may do for them
    """

    address: str
    role: str
    msp: str
    token_id: str
    bound_by: str
    bound_to: str
    expires_at: int
    delegation: tuple[bytes, bytes] | None = field(default=None, repr=False)


def of_claims(claims: dict[str, Any], issuer: str, now: float) -> Session:
    """The session that a verified token stands for. Raises Refused UNAUTHENTICATED.

    issuer  the own member's MSP id: a token of another member's is worth nothing here
    now     Unix seconds
    """
    if claims.get("iss") != issuer:
        raise unauthenticated("the token is another member's: log in where you call")
    subject, role, msp, token_id = (claims.get(name) for name in ("sub", "role", "msp", "jti"))
    issued, expires = claims.get("iat"), claims.get("exp")
    if (
        not (isinstance(subject, str) and addresses.is_address(subject))
        or not (isinstance(role, str) and role)
        or not (isinstance(msp, str) and msp)
        or not (isinstance(token_id, str) and token_id)
        or type(issued) is not int
        or type(expires) is not int
    ):
        raise unauthenticated("the token lacks a claim: log in again")
    if expires <= now:
        raise unauthenticated("the token has expired: log in again")
    if issued > now + _LEEWAY_SECONDS:
        raise unauthenticated("the token is dated in the future: check the member's clocks")
    bound_by, bound_to = _confirmation(claims.get("cnf"))
    delegation = _delegation(claims.get("delegation"), subject)
    return Session(subject, role, msp, token_id, bound_by, bound_to, expires, delegation)


def check_bound(session: Session, bound_by: str, thumbprint: str) -> None:
    """That the caller shows the key that the token is bound to. Raises Refused UNAUTHENTICATED."""
    if session.bound_by != bound_by or session.bound_to != thumbprint:
        raise unauthenticated("the token is bound to another key: log in with the key of this connection")


def unauthenticated(reason: str) -> Refused:
    """No valid session."""
    return Refused(code_pb2.CODE_UNAUTHENTICATED, reason)


def _confirmation(cnf: object) -> tuple[str, str]:
    if isinstance(cnf, dict):
        members = cast("dict[str, Any]", cnf)
        for method in (CERTIFICATE, DPOP):
            thumbprint = members.get(method)
            if len(members) == 1 and isinstance(thumbprint, str) and thumbprint:
                return method, thumbprint
    raise unauthenticated("the token is bound to no key: log in again")


def _delegation(claim: object, subject: str) -> tuple[bytes, bytes] | None:
    if claim is None:
        return None
    members = cast("dict[str, Any]", claim) if isinstance(claim, dict) else {}
    try:
        serialized, signature = (
            base64.urlsafe_b64decode(f"{members[name]}==") for name in ("delegation", "signature")
        )
        delegator = Delegation.FromString(serialized).delegator
    except (KeyError, ValueError, DecodeError) as error:
        raise unauthenticated("the token's delegation cannot be read: log in again") from error
    if delegator != subject:
        raise unauthenticated("the token's delegation is another's: log in again")
    return serialized, signature
