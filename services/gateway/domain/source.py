"""Where a caller is: what limits are counted by before anybody has said who they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNKNOWN = "unknown"
_IPV6_PREFIX = 64

Network = IPv4Network | IPv6Network


class Sources:
    """From the address of a connection, and what trusted proxies say of whom they pass on.

    trusted  the proxies: of anybody else `X-Forwarded-For` is the sender's own word, and not read
    """

    def __init__(self, trusted: Iterable[Network]) -> None:
        self._trusted = tuple(trusted)

    def of(self, peer: str, forwarded: Sequence[str] = ()) -> str:
        """An IPv4 address, or the /64 of an IPv6 one: who has one address there has all of it.

        peer       address of the other end of the connection
        forwarded  the headers `X-Forwarded-For`; each proxy appends whom it heard
        """
        at = _address(peer)
        hops = [hop.strip() for header in forwarded for hop in header.split(",")]
        while at is not None and self._is_trusted(at) and hops:
            at = _address(hops.pop()) or at
        return _name(at)

    def is_proxy(self, peer: str) -> bool:
        """Whether many callers come over this one connection's address."""
        at = _address(peer)
        return at is not None and self._is_trusted(at)

    def _is_trusted(self, at: Network) -> bool:
        return any(at.version == proxy.version and at.subnet_of(proxy) for proxy in self._trusted)  # type: ignore[arg-type]


def of_grpc(peer: str) -> str:
    """The address in what gRPC calls a peer: `ipv4:192.0.2.7:50000`, `ipv6:%5B2001:db8::1%5D:50000`."""
    _, _, address = peer.partition(":")
    return address.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


def _address(text: str) -> Network | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return ip_network(found)


def _name(at: Network | None) -> str:
    if at is None:
        return UNKNOWN
    if isinstance(at, IPv6Network):
        return str(at.supernet(new_prefix=_IPV6_PREFIX))
    return str(at.network_address)
