"""What peers and orderers are configured to wait for adds up: an orderer that hangs is left in time."""

import re
from typing import Any

import pytest
import yaml

from fabric_gateway.connection import Deadlines
from ops.devnet.templates import TEMPLATES

BAR_SECONDS = 10.0
# grpc-go takes no shorter interval (internal.KeepaliveMinPingTime).
SHORTEST_PING_SECONDS = 10.0


def seconds(duration: str) -> float:
    number, unit = duration.removesuffix("ms"), 0.001
    if number == duration:
        number, unit = duration.removesuffix("s"), 1.0
    return float(number) * unit


def template(name: str) -> Any:
    return yaml.safe_load(re.sub(r"\$\{(\w+)\}", r"\1", (TEMPLATES / "fabric" / name).read_text()))


@pytest.fixture
def peer() -> dict[str, Any]:
    return template("core.yaml")["peer"]


def test_there_is_time_for_another_orderer_within_one_submission(peer: dict[str, Any]) -> None:
    assert 2 * seconds(peer["gateway"]["broadcastTimeout"]) < Deadlines().submit_seconds


def test_a_peer_has_another_orderer_s_blocks_within_the_bar_although_the_next_one_hangs_too(
    peer: dict[str, Any],
) -> None:
    deliveries = peer["deliveryclient"]
    silence = seconds(deliveries["blockCensorshipTimeoutKey"])

    assert silence + seconds(deliveries["connTimeout"]) <= BAR_SECONDS / 2


def test_no_server_is_pinged_more_often_than_it_allows(peer: dict[str, Any]) -> None:
    """gRPC's servers answer that with GOAWAY, after two such pings."""
    keepalive = peer["keepalive"]
    orderer = template("orderer.yaml")["General"]["Keepalive"]

    of_orderers = max(seconds(orderer["ServerMinInterval"]), SHORTEST_PING_SECONDS)
    assert seconds(keepalive["deliveryClient"]["interval"]) >= of_orderers
    assert seconds(keepalive["client"]["interval"]) >= seconds(keepalive["minInterval"])
