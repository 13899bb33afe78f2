"""Signed JSON as callers send it: tokens and proofs (RFC 7515), ES256 alone."""

from __future__ import annotations

import base64
import binascii
from typing import Any, cast

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

ALGORITHM = "ES256"
MAX_BYTES = 8 * 1024


class Malformed(Exception):
    """Not a signed JSON object, or signed by another key."""


def header(compact: str) -> dict[str, Any]:
    """The protected header, unverified. Raises Malformed."""
    if len(compact) > MAX_BYTES or not compact.isascii() or compact.count(".") != 2:
        raise Malformed("not a compact JSON Web Signature")
    found = _object(_decoded(compact.partition(".")[0]))
    if "crit" in found:
        raise Malformed("an extension that must be understood, and none is")
    return found


def payload(compact: str, key: ECKey) -> dict[str, Any]:
    """The payload, after the signature was checked. Raises Malformed."""
    header(compact)
    try:
        signed = jws.deserialize_compact(compact, key, algorithms=[ALGORITHM])
    except (JoseError, ValueError) as error:
        raise Malformed("the signature does not fit") from error
    return _object(signed.payload)


def public_key(jwk: object) -> ECKey:
    """A P-256 public key. Raises Malformed for anything else, a private key included."""
    if not isinstance(jwk, dict):
        raise Malformed("not a JSON Web Key")
    members = cast("dict[str, Any]", jwk)
    if "d" in members or members.get("kty") != "EC" or members.get("crv") != "P-256":
        raise Malformed("not a P-256 public key")
    try:
        key = ECKey.import_key({name: members.get(name, "") for name in ("kty", "crv", "x", "y")})
        key.thumbprint()
    except (JoseError, ValueError) as error:
        raise Malformed("not a P-256 public key") from error
    return key


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise Malformed("not base64url") from error


def _object(raw: bytes | None) -> dict[str, Any]:
    try:
        parsed = orjson.loads(raw or b"")
    except orjson.JSONDecodeError as error:
        raise Malformed("not JSON") from error
    if not isinstance(parsed, dict):
        raise Malformed("not a JSON object")
    return cast("dict[str, Any]", parsed)
