"""Configuration of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, IPvAnyNetwork

from services.runtime.config import Address, ClientCa, Nats, SignedChannelConfig

MIB = 1024 * 1024


def _is_folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"the folder {path} is not there; create it, or correct the path")
    return path


def _is_origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme != "https" or not parts.hostname or not bare:
        raise ValueError(
            f"{url!r} is not where callers reach REST; write https://host, https://host:port or, behind a"
            " proxy that takes a prefix away, https://host/prefix"
        )
    return url.rstrip("/")


Origin = Annotated[str, AfterValidator(_is_origin)]
"""`https://host[:port][/prefix]`, kept without a slash at the end."""


class GatewayConfig(SignedChannelConfig):
    """What the gateway is told, besides what every service is."""

    service_name: ClassVar[str] = "gateway"

    ledger_address: Address
    storage_address: Address
    identity_address: Address
    notify_address: Address
    first_contact_address: Address
    """gRPC without client certificate: enrolment, registration, challenge and login alone."""
    rest_address: Address
    """HTTPS: FHIR and sessions."""
    public_origin: Origin
    """Where callers reach `rest_address`, such as `https://fhir.mercy.example/mesh` behind a proxy that takes
    `/mesh` away. Proofs (DPoP `htu`) are for it, answers name it; what a request says of itself (`Host`,
    `X-Forwarded-*`) counts for nothing."""
    other_origins: tuple[Origin, ...] = ()
    """Further ways in, such as one past the proxy: proofs may be for them too."""
    device_key_directory: Annotated[Path, AfterValidator(_is_folder)]
    """Holds `signing.key` (PEM), `hpke.key` (raw), `certificate.pem` of the gateway's device."""
    nats: Nats
    """Where the member's gateways share which proofs were used and which sessions ended."""
    client_ca: tuple[ClientCa, ...] = Field(min_length=1)

    revocations_every_seconds: float = Field(default=1.0, gt=0, le=2)
    """Between two questions to identity, whom the members' CAs have revoked."""
    in_flight_per_stream: int = Field(default=4_000, ge=1)
    """Commands of one stream whose result is not out yet; then the stream is not read. A group counts for as
    many as it has."""
    in_flight_per_caller: int = Field(default=16_000, ge=1, le=25_000)
    """Of all streams of one client; then none of them is read."""
    in_flight_bytes_per_caller: int = Field(default=64 * MIB, ge=16 * MIB)
    """Of one client's submissions in memory; then none of its streams is read."""
    streams_per_caller: int = Field(default=32, ge=1)
    """Of one client, of records and of notifications together; more are refused."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of the proxies in front: of these alone `X-Forwarded-For` is read, to tell callers apart."""
    logins_at_once: int = Field(default=200, ge=1)
    logins_per_minute: float = Field(default=300.0, gt=0)
    """Of one source (an IPv4 address, a /64 of IPv6): challenges, and logins as many again."""
    enrolments_at_once: int = Field(default=20, ge=1)
    enrolments_per_minute: float = Field(default=20.0, gt=0)
    """Of one source: enrolments, and registrations as many again."""
    rest_requests_per_caller: int = Field(default=256, ge=1)
    """Being answered at a time for one caller whose token was proved; 1,024 for all of them."""
    rest_anonymous_per_source: int = Field(default=16, ge=1)
    """Challenges and logins being answered at a time for one source; 256 for all, apart from callers'."""
    rest_connections_per_source: int = Field(default=1_000, ge=1)
    rest_body_seconds: float = Field(default=10.0, gt=0, le=20)
    """For a body to come, of up to 16 MiB."""
    rest_anonymous_body_seconds: float = Field(default=3.0, gt=0, le=20)
    """The same of a challenge or login, of up to 64 KiB."""
    first_contacts_per_source: int = Field(default=200, ge=1)
    """Calls being answered for one address at a time on the port where callers show no certificate."""
    stream_deadline_seconds: float = Field(default=60.0, gt=0)
    """For a submission of a stream to come into a batch. Later it is not sealed, and answered as not done."""
    refusals_at_once: int = Field(default=500, ge=1)
    refusals_per_second: float = Field(default=50.0, gt=0)
    """Commands of one client's, refused through its own doing; then its streams are not read, and its calls
    refused, until some are left again: many more, and each costs the others what a good one would."""
    refusal_debt_seconds: float = Field(default=10.0, gt=0)
    """For which such a client is not read at most, however much was refused of what was under way."""
    large_content_cpu_seconds: float = Field(default=10.0, gt=0, le=20)
    """Of the processor, to check one content or Bundle over 48 KiB: one of 16 MiB takes up to 6."""
    large_content_memory_bytes: int = Field(default=1024 * MIB, ge=896 * MIB)
    """Address space of the process that checks them, one at a time: 256 MiB of it are libraries and schemas,
    and one of 16 MiB takes up to 570 more."""
    in_flight_bytes: int = Field(default=256 * MIB, ge=16 * MIB)
    """Of all submissions in memory; then no stream is read."""
    batch_submissions: int = Field(default=400, ge=1, le=1_000)
    batch_linger_seconds: float = Field(default=1.0, ge=0, le=1)
    """How long a submission may wait to share a batch, for each batch in flight; not at all when none is."""
    batch_spacing_seconds: float = Field(default=0.0015, ge=0, le=1)
    """For each submission of a batch: so long after it the next one leaves, unless `batch_submissions` wait
    sooner. A batch costs much whatever is in it; above 1 / 0.0015 = 667 submissions a second they grow."""
    batch_spacing_at_most_seconds: float = Field(default=0.2, ge=0, le=1)
    """However many the last batch had."""
    batches_in_flight: int = Field(default=3, ge=1)
    open_sessions: int = Field(default=10_000, ge=1)
    """Tokens that are remembered as verified."""
