"""Where a caller is, how often it may ask, and how many of its requests are answered at a time."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain.source import UNKNOWN, Sources, of_grpc
from services.gateway.rest.request_slots import RequestSlots
from services.runtime.errors import MeshError
from services.runtime.throttle import Throttle

PROXIES = Sources([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("", [], UNKNOWN),
        ("a name", [], UNKNOWN),
        # The sender's own word.
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 192.0.2.9"], "192.0.2.9"),
        ("10.0.0.1", ["198.51.100.1", "192.0.2.9, 10.1.1.1"], "192.0.2.9"),
        ("fd00::1", ["2001:db8::9"], "2001:db8::/64"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
    ],
)
def test_a_source_is_who_connects_or_whom_a_trusted_proxy_names_last(
    peer: str, forwarded: list[str], source: str
) -> None:
    assert PROXIES.of(peer, forwarded) == source


def test_a_proxys_connections_are_many_callers() -> None:
    assert PROXIES.is_proxy("10.2.3.4")
    assert not PROXIES.is_proxy("192.0.2.7")
    assert not Sources(()).is_proxy("127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:50000", "192.0.2.7"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:50000", "2001:db8::1"),
        ("unix:", ""),
    ],
)
def test_what_grpc_calls_a_peer(peer: str, address: str) -> None:
    assert of_grpc(peer) == address


def test_who_asks_too_often_comes_back_and_others_need_not() -> None:
    now = [0.0]
    throttle = Throttle(3, 60, clock=lambda: now[0])
    for _ in range(3):
        throttle.take("flood")
    with pytest.raises(MeshError) as refused:
        throttle.take("flood")
    assert (refused.value.code, refused.value.retry_after_ms) == (code_pb2.CODE_RESOURCE_EXHAUSTED, 1_000)
    throttle.take("another")
    now[0] = 1.0
    throttle.take("flood")


def test_a_room_has_places_for_each_and_in_all() -> None:
    room = RequestSlots(3, 2)
    places = [room.take("a"), room.take("a")]
    with pytest.raises(MeshError):
        room.take("a")
    places.append(room.take("b"))
    with pytest.raises(MeshError) as full:
        room.take("c")
    assert full.value.retry_after_ms > 0
    for place in places:
        place.leave()
    assert not room._taken
    room.take("a")
