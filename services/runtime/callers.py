"""Who is calling: the service at the other end of the mTLS connection, and the end user behind it.

A peer is (MSP id of the member whose TLS CA issued its certificate, common name = service). The end
user is in the metadata, which only the own member's gateway may set. Nothing that changes state or is
confidential relies on it (see `services.runtime.caller_signature`).
"""

from collections.abc import Set
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from services.runtime.config import Tls
from services.runtime.errors import MeshError

CALLER_KEY = "cbmdhi-caller"
CALLER_ROLE_KEY = "cbmdhi-caller-role"
CALLER_MSP_KEY = "cbmdhi-caller-msp"

_CACHED_CERTIFICATES = 1024


@dataclass(frozen=True)
class Peer:
    """A service of a member."""

    msp_id: str
    service: str


@dataclass(frozen=True)
class Caller:
    """An authenticated end user. `role` is the lower-case name without prefix, such as `clinician`."""

    address: str
    role: str
    msp: str


class Context(Protocol):
    """The part of grpc.aio.ServicerContext that this module needs."""

    def auth_context(self) -> Any: ...

    def invocation_metadata(self) -> Any: ...


class PeerDirectory:
    """Finds the member of a certificate by the members' TLS CA roots.

    A root issues certificates directly, as in the devnet and in Fabric CA. Files are read once.
    """

    def __init__(self, own_msp_id: str, roots: dict[str, list[x509.Certificate]]) -> None:
        self.own_msp_id = own_msp_id
        self._roots = roots
        self._known: dict[bytes, Peer | None] = {}

    @classmethod
    def of(cls, own_msp_id: str, tls: Tls) -> "PeerDirectory":
        roots: dict[str, list[x509.Certificate]] = {}
        for member in tls.members:
            roots.setdefault(member.msp_id, []).extend(
                x509.load_pem_x509_certificates(member.ca_file.read_bytes())
            )
        fingerprints = [
            fingerprint
            for issued in roots.values()
            for fingerprint in {root.fingerprint(hashes.SHA256()) for root in issued}
        ]
        if len(fingerprints) != len(set(fingerprints)):
            raise MeshError.invalid(
                "two members share a TLS CA root, so that each could pose as the other; give each its own",
                "tls.members",
            )
        return cls(own_msp_id, roots)

    def identify(self, pem: bytes) -> Peer | None:
        """The peer of a certificate; None: no member issued it. TLS has checked its validity."""
        certificate = x509.load_pem_x509_certificate(pem)
        fingerprint = certificate.fingerprint(hashes.SHA256())
        if fingerprint not in self._known:
            if len(self._known) >= _CACHED_CERTIFICATES:
                self._known.clear()
            self._known[fingerprint] = self._find(certificate)
        return self._known[fingerprint]

    def _find(self, certificate: x509.Certificate) -> Peer | None:
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        if len(names) != 1:
            return None
        for msp_id, roots in self._roots.items():
            if any(_issued_by(certificate, root) for root in roots):
                return Peer(msp_id, str(names[0].value))
        return None


current_directory: ContextVar[PeerDirectory] = ContextVar("current_directory")
"""The directory of the answering server, set by its interceptor (and by tests)."""


def peer_of(context: Context) -> Peer:
    """The calling service. Raises MeshError UNAUTHENTICATED without a certificate of a member."""
    certificates = context.auth_context().get("x509_pem_cert", [])
    peer = current_directory.get().identify(certificates[0]) if certificates else None
    if peer is None:
        raise MeshError.unauthenticated(
            "the connection shows no certificate of a member's TLS CA; use the service's own certificate"
        )
    return peer


def require_peer(
    context: Context, *, services: Set[str], msp_id: str | None = None, any_member: bool = False
) -> Peer:
    """The peer, when it is one of `services` of the OWN member; MeshError FORBIDDEN otherwise.

    msp_id      that member instead of the own one
    any_member  any member of the consortium (calls across members)
    """
    peer = peer_of(context)
    wanted = msp_id or current_directory.get().own_msp_id
    if peer.service not in services or not (any_member or peer.msp_id == wanted):
        admitted = ", ".join(sorted(services))
        whose = "any member" if any_member else wanted
        raise MeshError.forbidden(
            f"only {admitted} of {whose} may call this, not {peer.service} of {peer.msp_id}"
        )
    return peer


def caller_of(context: Context) -> Caller:
    """The end user that the own member's gateway names. Use it to refuse calls, never to permit one.

    Raises MeshError FORBIDDEN when another peer is calling, UNAUTHENTICATED when no user is named.
    """
    require_peer(context, services={"gateway"})
    metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
    address, role, msp = (metadata.get(key, "") for key in (CALLER_KEY, CALLER_ROLE_KEY, CALLER_MSP_KEY))
    if not address or not role or not msp:
        raise MeshError.unauthenticated("no end user is named; log in and send the call through the gateway")
    return Caller(str(address), str(role), str(msp))


def caller_metadata(caller: Caller) -> tuple[tuple[str, str], ...]:
    """How the gateway passes an end user on: `call(..., metadata=caller_metadata(caller))`."""
    return ((CALLER_KEY, caller.address), (CALLER_ROLE_KEY, caller.role), (CALLER_MSP_KEY, caller.msp))


def _issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
