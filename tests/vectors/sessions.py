"""sessions.json: login over gRPC and over REST, the delegation that goes with it, a DPoP proof, and a call
signed by who asks."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1.call_pb2 import Call
from cbmdhi.notify.v1.notify_pb2 import AcknowledgeRequest
from cbmdhi.protocol import address, signature
from tests.support.fakes.fabric_blocks import Organisation, issue_certificate
from tests.vectors.commands import AUTHOR, DEVICE, delegation
from tests.vectors.fixed import AT_MS, CHANNEL, Fixed, Vectors, key, same, sign, uuid
from tests.vectors.story import attributes

CHALLENGE = bytes(range(32, 64))
TOKEN = "eyJhbGciOiJFUzI1NiJ9.a-token-as-the-gateway-gave-it.its-signature"
URL = "https://gateway.example/fhir/Observation/" + uuid(1)
_DPOP = key(1010)
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def vectors(_: Vectors) -> Vectors:
    """All vectors."""
    certificate = issue_certificate(
        Organisation("MercyMSP", Fixed(3000)),
        address.of_public_key(AUTHOR.public_key()),
        AUTHOR.public_key(),
        attributes("clinician"),
    ).public_bytes(Encoding.DER)
    x5t, jkt = _base64(hashlib.sha256(certificate).digest()), _thumbprint(_jwk(_DPOP))
    within = delegation(AUTHOR, DEVICE)
    return {
        "channel": CHANNEL.name,
        "genesis_sha256_hex": CHANNEL.genesis_sha256.hex(),
        "address": address.of_public_key(AUTHOR.public_key()),
        "public_key_spki_hex": signature.spki(AUTHOR.public_key()).hex(),
        "challenge_hex": CHALLENGE.hex(),
        "grpc_login": {
            "certificate_der_hex": certificate.hex(),
            "certificate_x5t_s256": x5t,
            "signature_hex": sign(AUTHOR, signature.LOGIN, CHALLENGE, x5t.encode()).hex(),
            "bad": _bad_logins(x5t, jkt),
        },
        "rest_login": {
            "dpop_jwk": _jwk(_DPOP),
            "dpop_jkt": jkt,
            "signature_hex": sign(AUTHOR, signature.LOGIN, CHALLENGE, jkt.encode()).hex(),
        },
        "delegation": {
            "device": address.of_public_key(DEVICE.public_key()),
            "delegation_hex": within.delegation.hex(),
            "signature_hex": within.signature.hex(),
            "delegation_sha256_hex": hashlib.sha256(within.delegation).hexdigest(),
        },
        "call": _call(),
        "dpop": {
            "method": "GET",
            "url": URL,
            "issued_at_s": AT_MS // 1000,
            "token": TOKEN,
            "ath": _base64(hashlib.sha256(TOKEN.encode()).digest()),
            "proof": _proof({"htm": "GET", "htu": URL, "iat": AT_MS // 1000, "jti": uuid(40)}),
        },
    }


def _bad_logins(x5t: str, jkt: str) -> list[dict[str, str]]:
    """Signatures that are none over `challenge` and the certificate's thumbprint by the author's key."""
    right = sign(AUTHOR, signature.LOGIN, CHALLENGE, x5t.encode())
    r, s = decode_dss_signature(right)
    other = hashlib.sha256(b"another certificate").digest()
    wrong = {
        "by another key": sign(DEVICE, signature.LOGIN, CHALLENGE, x5t.encode()),
        "over another challenge": sign(AUTHOR, signature.LOGIN, CHALLENGE[::-1], x5t.encode()),
        "for another certificate": sign(AUTHOR, signature.LOGIN, CHALLENGE, _base64(other).encode()),
        "for a DPoP key": sign(AUTHOR, signature.LOGIN, CHALLENGE, jkt.encode()),
        "for the thumbprint's bytes, not its text": sign(
            AUTHOR, signature.LOGIN, CHALLENGE, base64.urlsafe_b64decode(x5t + "=")
        ),
        "under a command's label": sign(AUTHOR, signature.COMMAND, CHALLENGE, x5t.encode()),
        "with a high s": encode_dss_signature(r, _ORDER - s),
    }
    return [{"name": name, "signature_hex": made.hex()} for name, made in wrong.items()]


def _call() -> dict[str, Any]:
    request = AcknowledgeRequest(notification_ids=[7, 300])
    message = Call(
        call_id=uuid(41),
        channel=CHANNEL.name,
        genesis_sha256=CHANNEL.genesis_sha256,
        msp="MercyMSP",
        request_type=request.DESCRIPTOR.full_name,
        request=same(request),
        issued_at_ms=AT_MS,
        expires_at_ms=AT_MS + 300_000,
    )

    def case(name: str, check: str, by: ec.EllipticCurvePrivateKey = AUTHOR, **other: Any) -> dict[str, Any]:
        forged = Call()
        forged.CopyFrom(message)
        for field, value in other.items():
            setattr(forged, field, value)
        raw = same(forged)
        return {
            "name": name,
            "check": check,
            "call_hex": raw.hex(),
            "signature_hex": sign(by, signature.CALL, raw).hex(),
        }

    good = case("", "")
    return {
        "request_type": request.DESCRIPTOR.full_name,
        "notification_ids": list(request.notification_ids),
        "msp": "MercyMSP",
        "call_hex": good["call_hex"],
        "signature_hex": good["signature_hex"],
        "taken_at_ms": AT_MS + 1_000,
        "bad": [
            case("signed by another", "call-signature", by=DEVICE),
            case("for another channel", "call-channel", channel="other"),
            case("for another genesis", "call-genesis", genesis_sha256=bytes(32)),
            case("for another member's service", "call-member", msp="LakesideMSP"),
            case("of another request", "call-type", request_type="cbmdhi.notify.v1.ListRequest"),
            case("under an id that is no UUIDv7", "call-id", call_id="41"),
            case("past", "call-expiry", issued_at_ms=AT_MS - 100_000, expires_at_ms=AT_MS),
            case("for longer than five minutes", "call-lifetime", expires_at_ms=AT_MS + 300_001),
            case(
                "from the future",
                "call-issued",
                issued_at_ms=AT_MS + 61_001,
                expires_at_ms=AT_MS + 300_000,
            ),
        ],
    }


def _proof(claims: dict[str, Any]) -> str:
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": _jwk(_DPOP)}
    claims["ath"] = _base64(hashlib.sha256(TOKEN.encode()).digest())
    signed = ".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(_DPOP.sign(signed.encode(), algorithm))
    return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _jwk(private: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    x, y = (_base64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def _thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638."""
    canonical = json.dumps(jwk, separators=(",", ":"), sort_keys=True)
    return _base64(hashlib.sha256(canonical.encode()).digest())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
