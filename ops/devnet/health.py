"""Is a program doing its work? Asked of the program itself, never concluded from its being alive."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ops.devnet.layout import Organisation
from ops.devnet.topology import SERVICES, Ports, split_program

_SECONDS = 3.0


def date(address: str, tls: ssl.SSLContext | None = None) -> float | None:
    """The time (Unix, seconds) that a program says with its HTTP answers; None when it does not answer."""
    try:
        with _opener(tls).open(f"{_scheme(tls)}://{address}/livez", timeout=_SECONDS) as response:
            said = response.headers["Date"]
    except urllib.error.HTTPError as exc:
        with exc:
            said = exc.headers["Date"]
    except (OSError, http.client.HTTPException):
        return None
    return parsedate_to_datetime(said).timestamp() if said else None


def get(
    address: str,
    path: str,
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """Status and body of an HTTP call to loopback; status 0 when nothing answers. `tls`: by HTTPS."""
    url = f"{_scheme(tls)}://{address}{path}"
    request = urllib.request.Request(url, body, method=method)  # noqa: S310 - ours, http or https
    try:
        with _opener(tls).open(request, timeout=_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()
    except (OSError, http.client.HTTPException) as exc:
        return 0, str(getattr(exc, "reason", exc)).encode()


def monitoring(folders: Organisation) -> ssl.SSLContext:
    """As who reads the metrics of an organisation's peers and orderers."""
    folder = folders.monitoring / "tls"
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def _scheme(tls: ssl.SSLContext | None) -> str:
    return "https" if tls else "http"


def _opener(tls: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """Loopback is never behind a proxy, whatever the environment says."""
    direct = urllib.request.ProxyHandler({})
    return urllib.request.build_opener(direct, *([urllib.request.HTTPSHandler(context=tls)] if tls else []))


@dataclass(frozen=True)
class Answer:
    """What a program said. `heard`: it said something at all; one that is not may be stopped or stuck."""

    heard: bool
    reason: str = ""

    @property
    def ready(self) -> bool:
        """True when it does its work."""
        return self.heard and not self.reason


def ask(program: str, ports: Ports) -> Answer:
    """Ask a program whether it is ready."""
    organisation, kind = split_program(program)
    if kind in SERVICES:
        return _http(ports.address(organisation, f"{kind}_metrics"), "/readyz")
    return _INFRASTRUCTURE[kind](organisation, ports)


def _http(address: str, path: str, method: str = "GET", tls: ssl.SSLContext | None = None) -> Answer:
    status, body = get(address, path, method, tls)
    if status == 200:
        return Answer(True)
    told = " ".join(body.decode(errors="replace").split())[:200]
    if status == 0:
        return Answer(False, f"does not answer ({told})")
    return Answer(True, f"not ready ({status}): {told}")


def _tls(address: str) -> Answer:
    """A whole handshake: a bare connection would show as an error in Fabric's logs."""
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=_SECONDS) as connection,
            _ANYONE.wrap_socket(connection, server_hostname="localhost"),
        ):
            return Answer(True)
    except OSError as exc:
        return Answer(False, f"does not answer ({exc.strerror or exc})")


def _tcp(address: str) -> Answer:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_SECONDS):
            return Answer(True)
    except OSError as exc:
        return Answer(False, f"does not answer ({exc.strerror or exc})")


def _anyone(*protocols: str) -> ssl.SSLContext:
    """Does somebody answer is all that is asked; nothing is sent, nothing believed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    return context


_ANYONE = _anyone("h2")
ANYONE = _anyone("http/1.1")
"""For what everybody may ask: /healthz."""


def _both(first: Answer, second: Callable[[], Answer]) -> Answer:
    return second() if first.ready else first


def _with_operations(kind: str, tls: ssl.SSLContext | None) -> Callable[[str, Ports], Answer]:
    """Fabric's operations listener is up before the program itself listens: ask both."""
    return lambda org, ports: _both(
        _http(ports.address(org, f"{kind}_operations"), "/healthz", tls=tls),
        lambda: _tls(ports.address(org, kind)),
    )


_INFRASTRUCTURE: dict[str, Callable[[str, Ports], Answer]] = {
    "ca": _with_operations("ca", None),
    "peer": _with_operations("peer", ANYONE),
    "orderer": _with_operations("orderer", ANYONE),
    "chaincode": lambda org, ports: _tls(ports.address(org, "chaincode")),
    "ipfs": lambda org, ports: _http(ports.address(org, "ipfs_rpc"), "/api/v0/version", "POST"),
    "nats": lambda org, ports: _http(ports.address(org, "nats_monitor"), "/healthz?js-enabled-only=true"),
    "otelcol": lambda org, ports: _tcp(ports.address(org, "otelcol")),
}
