"""The member's Fabric CA, by its REST API (Fabric CA 1.5, `/api/v1`).

    register, replace_secret, find            as the registrar, by token
    revocation_list, revoked_certificates     as the registrar, by token
    enrol                                     as the enrolling identity, by id and secret (HTTP Basic)
    info                                      open

Errors are MeshErrors:

    UNAVAILABLE      no answer in time, connection refused or lost, 5xx
    UNAUTHENTICATED  enrol: wrong, replaced or used-up secret
    CONFLICT         register: the id is taken
    INVALID          enrol: the CA does not take the request
    INTERNAL         the CA is not the pinned one, refuses the registrar, or answers something else

After an outage the next call reaches the CA again: only a pool of connections is held.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.protocol import certificates
from services.identity.domain.certificate import ROLE_ATTRIBUTE
from services.identity.fabric_ca_transport import Answer, Registrar, Transport, away, not_understood
from services.runtime.errors import MeshError

UNLIMITED = -1
"""As a number of enrolments."""

_LONG_AGO = "1970-01-01T00:00:00Z"
# lib/caerrors/servererror.go
_ID_TAKEN = 74
_NO_SUCH_ID = 63
_NO_SUCH_CA = 19
_BAD_REQUESTS = frozenset((31, 77, 80))  # CSR malformed, common name is not the id, a field too long


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A certificate and the chain of its issuers, PEM."""

    certificate_pem: str
    chain_pem: str


@dataclass(frozen=True, slots=True)
class Registered:
    """An id in the CA. `max_enrolments` counts from its registration."""

    role: str
    max_enrolments: int


@dataclass(frozen=True, slots=True)
class Info:
    """The CA's name, chain of certificates (PEM) and version."""

    name: str
    chain_pem: str
    version: str


class FabricCa:
    """One CA of a Fabric CA server."""

    def __init__(self, transport: Transport, name: str, registrar: Registrar) -> None:
        self._transport = transport
        self._name = name
        self._registrar = registrar

    async def register(self, address: str, role: str, secret: str, max_enrolments: int) -> None:
        """Make an id with a secret. Its certificates will carry the role. CONFLICT when it exists."""
        body = {
            "id": address,
            "type": certificates.SIGNER,
            "secret": secret,
            "max_enrollments": max_enrolments,
            "affiliation": "",
            "attrs": [{"name": ROLE_ATTRIBUTE, "value": role, "ecert": True}],
        }
        answer = await self._as_registrar("register", "POST", "register", body)
        if _ID_TAKEN in answer.errors:
            raise MeshError.conflict("the Fabric CA knows this address already")
        _expect_success(answer)

    async def replace_secret(self, address: str, secret: str, max_enrolments: int) -> None:
        """Give a known id another secret. `max_enrolments` is its total since it was registered."""
        body = {"secret": secret, "max_enrollments": max_enrolments}
        _expect_success(await self._as_registrar("replace_secret", "PUT", f"identities/{address}", body))

    async def find(self, address: str) -> Registered | None:
        """The id in the CA; None: unknown."""
        answer = await self._as_registrar("find", "GET", f"identities/{address}", None)
        if _NO_SUCH_ID in answer.errors:
            return None
        _expect_success(answer)
        try:
            attributes = {entry["name"]: entry["value"] for entry in answer.result["attrs"]}
            return Registered(attributes.get(ROLE_ATTRIBUTE, ""), int(answer.result["max_enrollments"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise not_understood() from exc

    async def enrol(self, address: str, secret: str, csr_pem: str) -> Enrolment:
        """Have a request signed. The certificate carries the role and no other attribute."""
        body = {
            "certificate_request": csr_pem,
            "caname": self._name,
            "attr_reqs": [{"name": ROLE_ATTRIBUTE, "optional": True}],
        }
        answer = await self._transport.exchange(
            "enrol",
            "POST",
            self._transport.url("enroll"),
            json.dumps(body).encode(),
            aiohttp.encode_basic_auth(address, secret),
        )
        if answer.status == 401:
            raise MeshError.unauthenticated(
                "the secret is wrong, or was replaced or used up; ask an administrator for a new one",
                "secret",
            )
        if _BAD_REQUESTS & answer.errors:
            raise MeshError.invalid("the Fabric CA does not take this request", "csr_pem")
        _expect_success(answer)
        try:
            return Enrolment(_text(answer.result["Cert"]), _text(answer.result["ServerInfo"]["CAChain"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise not_understood() from exc

    async def revocation_list(self) -> bytes:
        """The CA's revocations as an X.509 CRL (DER), signed now, without expired certificates."""
        body = {"expireafter": datetime.now(UTC).isoformat(timespec="seconds")}
        answer = await self._as_registrar("gencrl", "POST", "gencrl", body)
        _expect_success(answer)
        try:
            pem = x509.load_pem_x509_crl(base64.b64decode(answer.result["CRL"], validate=True))
        except (KeyError, TypeError, ValueError) as exc:
            raise not_understood() from exc
        return pem.public_bytes(Encoding.DER)

    async def revoked_certificates(self) -> list[bytes]:
        """Every certificate (DER) that the CA ever revoked."""
        query = {"ca": self._name, "revoked_start": _LONG_AGO}
        answer = await self._as_registrar("certificates", "GET", "certificates", None, query)
        _expect_success(answer)
        try:
            return await asyncio.to_thread(_certificates, answer.result["certs"])
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise not_understood() from exc

    async def info(self) -> Info:
        """Name, chain and version. Needs no identity."""
        url = self._transport.url("cainfo", self._name)
        answer = await self._transport.exchange("info", "GET", url, b"")
        _expect_success(answer)
        try:
            return Info(
                str(answer.result["CAName"]), _text(answer.result["CAChain"]), str(answer.result["Version"])
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise not_understood() from exc

    async def _as_registrar(
        self,
        call: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        url = self._transport.url(path, self._name if body is None else "")
        if query:
            url = url.with_query(query)
        raw = b"" if body is None else json.dumps({**body, "caname": self._name}).encode()
        token = self._registrar.token(method, url.raw_path_qs, raw)
        answer = await self._transport.exchange(call, method, url, raw, token)
        if answer.status in (401, 403):
            raise MeshError.internal(
                "the Fabric CA refuses this member's registrar; its operator checks certificate and rights"
            )
        return answer


def _expect_success(answer: Answer) -> None:
    if answer.status >= 500:
        raise away()
    if _NO_SUCH_CA in answer.errors:
        raise MeshError.internal("the Fabric CA server has no such CA; mend fabric_ca_name")
    if answer.status >= 300 or answer.errors:
        raise not_understood()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded, validate=True).decode()


def _certificates(told: list[Any]) -> list[bytes]:
    """The certificates as DER. Years of them, so do not call it on the event loop."""
    return [x509.load_pem_x509_certificate(one["PEM"].encode()).public_bytes(Encoding.DER) for one in told]
