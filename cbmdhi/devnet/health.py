"""Is a program doing its work? Asked of the program itself, never concluded from its being alive."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from cbmdhi.devnet.topology import SERVICES, Ports, split_program

_SECONDS = 3.0


def date(address: str) -> float | None:
    """The time (Unix, seconds) that a program says with its HTTP answers; None when it does not answer."""
    try:
        with _DIRECT.open(f"http://{address}/livez", timeout=_SECONDS) as response:
            said = response.headers["Date"]
    except urllib.error.HTTPError as exc:
        with exc:
            said = exc.headers["Date"]
    except (OSError, http.client.HTTPException):
        return None
    return parsedate_to_datetime(said).timestamp() if said else None


def get(address: str, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of an HTTP call to loopback; status 0 when nothing answers."""
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    try:
        with _DIRECT.open(request, timeout=_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()
    except (OSError, http.client.HTTPException) as exc:
        return 0, str(getattr(exc, "reason", exc)).encode()


# Loopback is never behind a proxy, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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


def _http(address: str, path: str, method: str = "GET") -> Answer:
    status, body = get(address, path, method)
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


def _anyone() -> ssl.SSLContext:
    """Does somebody answer is all that is asked; nothing is sent, nothing believed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


_ANYONE = _anyone()


def _both(first: Answer, second: Callable[[], Answer]) -> Answer:
    return second() if first.ready else first


def _with_operations(kind: str) -> Callable[[str, Ports], Answer]:
    """Fabric's operations listener is up before the program itself listens: ask both."""
    return lambda org, ports: _both(
        _http(ports.address(org, f"{kind}_operations"), "/healthz"), lambda: _tls(ports.address(org, kind))
    )


_INFRASTRUCTURE: dict[str, Callable[[str, Ports], Answer]] = {
    "ca": _with_operations("ca"),
    "peer": _with_operations("peer"),
    "orderer": _with_operations("orderer"),
    "chaincode": lambda org, ports: _tls(ports.address(org, "chaincode")),
    "ipfs": lambda org, ports: _http(ports.address(org, "ipfs_rpc"), "/api/v0/version", "POST"),
    "nats": lambda org, ports: _http(ports.address(org, "nats_monitor"), "/healthz?js-enabled-only=true"),
    "otelcol": lambda org, ports: _tcp(ports.address(org, "otelcol")),
}
