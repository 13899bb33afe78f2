"""DPoP: proof that the caller holds the key that the token is bound to (RFC 9449, section 4.3)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from services.gateway.domain import jose
from services.gateway.domain.session import unauthenticated
from services.runtime.refusal import Refused

WINDOW_SECONDS = 60
KEPT_SECONDS = 2 * WINDOW_SECONDS + 1
"""For how long a used proof is remembered: dated ahead by the window, it is good until the one after that."""
_LONGEST_ID = 256


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds, but for its being new: `proof_id` may be used once while it is valid.

    issued_at  Unix seconds, by the caller's clock
    """

    thumbprint: str
    proof_id: str
    issued_at: int


def verify(proof: str, *, method: str, urls: Collection[str], token: str | None, now: float) -> Proof:
    """Check a proof for one request. Raises Refused UNAUTHENTICATED.

    method, urls  of the request, by each way in; query and fragment of a URL do not count
    token         that it must be for (`ath`); None when the request carries none
    now           Unix seconds
    """
    try:
        header = jose.header(proof)
        if header.get("typ") != "dpop+jwt" or header.get("alg") != jose.ALGORITHM:
            raise jose.Malformed("not a DPoP proof signed with ES256")
        key = jose.public_key(header.get("jwk"))
        claims = jose.payload(proof, key)
    except jose.Malformed as error:
        raise _bad("is not a dpop+jwt signed with ES256 by the P-256 key in its header") from error
    thumbprint = key.thumbprint()
    _check_request(claims, method, urls)
    issued, proof_id = claims.get("iat"), claims.get("jti")
    if type(issued) is not int or abs(now - issued) > WINDOW_SECONDS:
        raise _bad(f"is not of the last {WINDOW_SECONDS} s: make one for each request, and check the clock")
    if not isinstance(proof_id, str) or not 0 < len(proof_id) <= _LONGEST_ID:
        raise _bad("has no jti")
    if token is not None and claims.get("ath") != access_token_hash(token):
        raise _bad("is for another token: `ath` is SHA-256 of the token in base64url")
    # Another key may use the same jti; it is one key's that counts.
    return Proof(thumbprint, hashlib.sha256(f"{thumbprint}.{proof_id}".encode()).hexdigest(), issued)


def access_token_hash(token: str) -> str:
    """`ath`: SHA-256 of the token in unpadded base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def _check_request(claims: dict[str, Any], method: str, urls: Collection[str]) -> None:
    named = claims.get("htu")
    if claims.get("htm") != method:
        raise _bad("is for another HTTP method (htm)")
    if not isinstance(named, str) or _normal(named) not in {_normal(url) for url in urls}:
        raise _bad("is for another URL (htu): sign the public address of this server and the path")


def _normal(url: str) -> tuple[str, str, int, str] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), port or {"https": 443}.get(scheme, 80), parts.path or "/"


def _bad(what: str) -> Refused:
    return unauthenticated(f"the DPoP proof {what}")
