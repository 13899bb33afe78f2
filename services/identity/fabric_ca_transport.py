"""HTTP with a Fabric CA: TLS with a pinned root, the registrar's token, a deadline, one retry, our errors."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.trace import SpanKind
from yarl import URL

from cbmdhi.protocol import signature
from services.runtime import telemetry, tracing
from services.runtime.client import RetryBudget
from services.runtime.errors import MeshError

_DEADLINE_SECONDS = 8.0
_CONNECT_SECONDS = 2.0
_IDLE_SECONDS = 30.0
_MAX_CONNECTIONS = 16
# Enough for some thousand revoked certificates.
_MAX_ANSWER_BYTES = 8 * 1024 * 1024
_RETRY_AFTER_MS = 1_000
_SHA256 = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True)
class Registrar:
    """Who may register others: an identity of the CA with `hf.Registrar.Roles` and `.Attributes`."""

    certificate_pem: bytes
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate_file: Path, key_file: Path) -> Registrar:
        """Read both PEM files. Raises MeshError INVALID when the key is not a P-256 one."""
        try:
            return cls(certificate_file.read_bytes(), signature.load_private_key(key_file.read_bytes()))
        except ValueError as exc:
            raise MeshError.invalid(
                "registrar_key_file holds no P-256 private key; enrol the registrar again"
            ) from exc

    def token(self, method: str, uri: str, body: bytes) -> str:
        """The CA's own scheme: certificate, and a signature over method, URI, body and certificate.

        As `util.GenECDSAToken` of Fabric CA 1.5: base64 (standard alphabet, padded), joined by dots, low s.
        """
        certificate = _base64(self.certificate_pem)
        payload = f"{method}.{_base64(uri.encode())}.{_base64(body)}.{certificate}"
        signed = signature.low_s(self.key.sign(payload.encode(), _SHA256))
        return f"{certificate}.{_base64(signed)}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the CA's own error codes (lib/caerrors), and the result."""

    status: int
    errors: frozenset[int]
    result: dict[str, Any]


class Transport:
    """Exchanges requests and answers with one Fabric CA server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, metrics: telemetry.Metrics) -> None:
        self._session = session
        self._base = URL(url)
        self._retries = RetryBudget()
        self._durations = metrics.histogram(
            "fabric_ca_duration", "seconds", "Time of a call to the Fabric CA", ("call", "outcome")
        )

    def url(self, path: str, ca_name: str = "") -> URL:
        """The URL of a call. The query names the CA when there is no body that names it."""
        url = self._base / "api/v1" / path
        return url.with_query(ca=ca_name) if ca_name else url

    async def exchange(
        self, call: str, method: str, url: URL, body: bytes, authorization: str = ""
    ) -> Answer:
        """Send and read. `call` is its name in metrics. Raises MeshError UNAVAILABLE or INTERNAL."""
        started, outcome = perf_counter(), "failed"
        try:
            with tracing.span(f"fabric_ca {call}", kind=SpanKind.CLIENT):
                answer = await self._with_retry(method, url, body, authorization)
            outcome = "answered"
            return answer
        except aiohttp.ClientSSLError as exc:
            raise MeshError.internal(
                "the Fabric CA shows no certificate of the pinned root; mend fabric_ca_tls_file"
            ) from exc
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as exc:
            raise away() from exc
        except aiohttp.ClientError as exc:
            raise not_understood() from exc
        finally:
            self._durations.labels(call, outcome).observe(perf_counter() - started)

    async def _with_retry(self, method: str, url: URL, body: bytes, authorization: str) -> Answer:
        # A pooled connection may be older than a restart of the CA. Repeating is harmless: a second register
        # fails because the id exists, a second enrol gives another certificate.
        try:
            return await self._attempt(method, url, body, authorization)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not self._retries.take():
                raise
        answer = await self._attempt(method, url, body, authorization)
        self._retries.succeeded()
        return answer

    async def _attempt(self, method: str, url: URL, body: bytes, authorization: str) -> Answer:
        headers = tracing.inject_headers({"Content-Type": "application/json"})
        if authorization:
            headers["Authorization"] = authorization
        async with self._session.request(
            method, url, data=body or None, headers=headers, allow_redirects=False
        ) as response:
            raw = bytearray()
            async for part in response.content.iter_chunked(64 * 1024):
                raw += part
                if len(raw) > _MAX_ANSWER_BYTES:
                    raise not_understood()
            return _read(response.status, bytes(raw))


@asynccontextmanager
async def open_transport(
    url: str, tls_root_file: Path, metrics: telemetry.Metrics
) -> AsyncIterator[Transport]:
    """A transport to a server whose certificate was issued by the pinned root and by no other."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.minimum_version = ssl.TLSVersion.TLSv1_2
    trust.load_verify_locations(tls_root_file)
    connector = aiohttp.TCPConnector(ssl=trust, limit=_MAX_CONNECTIONS, keepalive_timeout=_IDLE_SECONDS)
    deadline = aiohttp.ClientTimeout(total=_DEADLINE_SECONDS, sock_connect=_CONNECT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=deadline) as session:
        yield Transport(session, url, metrics)


def away() -> MeshError:
    """The error when the CA does not answer."""
    return MeshError.unavailable(
        "the member's certificate authority does not answer; send again", retry_after_ms=_RETRY_AFTER_MS
    )


def not_understood() -> MeshError:
    """The error when the CA answers in another way than version 1.5."""
    return MeshError.internal(
        "the Fabric CA gave an unknown kind of answer; its operator checks its version and logs"
    )


def _read(status: int, raw: bytes) -> Answer:
    # A proxy or load balancer in front of the CA answers failures in its own format.
    if status >= 500 and not raw.lstrip().startswith(b"{"):
        return Answer(status, frozenset(), {})
    try:
        document = json.loads(raw)
        result = document.get("result")
        errors = frozenset(int(error["code"]) for error in document.get("errors") or ())
    except (ValueError, AttributeError, KeyError, TypeError) as exc:
        raise not_understood() from exc
    return Answer(status, errors, result if isinstance(result, dict) else {})


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
