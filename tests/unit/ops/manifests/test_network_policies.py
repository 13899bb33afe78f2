"""The NetworkPolicies let through what docs/architecture.md draws, and nothing else."""

from typing import Any

import pytest

from ops.manifests import allowed_calls
from ops.manifests.allowed_calls import Arrow
from ops.manifests.listeners import PORTS
from tests.cluster.policy_semantics import Actor, allowed
from tests.unit.ops.manifests.manifests import (
    OVERLAYS,
    all_workloads,
    container,
    cron_jobs,
    of_kind,
    program,
    template,
)

Connection = tuple[str, str, int]

OUTSIDE = Actor("outside", address="203.0.113.7", ports={"any": 443})
FOREIGN = Actor("stranger", "elsewhere", {"app.kubernetes.io/name": "gateway"}, {"cbmdhi/role": "other"})
MONITORING = Actor("prometheus", "monitoring", {}, {"cbmdhi/role": "monitoring"}, ports={"http": 9090})
COLLECTOR = Actor("collector", "tracing", {}, {"cbmdhi/role": "collector"}, ports={"otlp": 4317, "other": 9})
# Of an organisation in another cluster: an address of the ranges reserved for documentation.
REMOTE = Actor("remote", address="192.0.2.10", ports={"odd": 9, **PORTS["peer"], **PORTS["orderer"]})
# Somewhere: neither can be named by a policy of every cluster.
API_SERVER = Actor("apiserver", address="203.0.113.8", ports={"https": 6443, "other": 2379})
STORE = Actor("store", address="203.0.113.9", ports={"https": 443, "other": 22})


def pods(overlay: str) -> list[Actor]:
    labels = {
        document["metadata"]["name"]: document["metadata"]["labels"]
        for document in of_kind(overlay, "Namespace")
    }
    return [
        Actor(
            document["metadata"]["name"],
            document["metadata"]["namespace"],
            template(document)["metadata"]["labels"],
            labels[document["metadata"]["namespace"]],
            ports={port["name"]: port["containerPort"] for port in container(document).get("ports", [])},
        )
        for document in [*all_workloads(overlay), *cron_jobs(overlay)]
    ]


def strangers(inside: list[Actor]) -> list[Actor]:
    """A pod of nobody's in each namespace of ours."""
    return [
        Actor("stranger", namespace, {}, labels, ports={"any": 80})
        for namespace, labels in {
            pod.namespace: {"cbmdhi/role": pod.namespace_labels["cbmdhi/role"]} for pod in inside
        }.items()
    ]


def let_through(policies: list[dict[str, Any]], actors: list[Actor]) -> set[Connection]:
    return {
        (str(source), str(target), port)
        for source in actors
        for target in actors
        for port in target.ports.values()
        if (source.namespace or target.namespace) and allowed(policies, source, target, port)
    }


def drawn(overlay: str, inside: list[Actor], others: list[Actor]) -> set[Connection]:
    """Every connection that the architecture names, among these actors."""
    known = allowed_calls.read()
    return {connection for arrow in known for connection in _drawn(arrow, inside, others)} | {
        # What has no policies of ours is none of our business.
        (str(source), str(target), port)
        for source in others
        for target in others
        for port in target.ports.values()
        if source.namespace or target.namespace
    }


def _drawn(arrow: Arrow, inside: list[Actor], others: list[Actor]) -> set[Connection]:
    def of(name: str, role: str = "") -> list[Actor]:
        return [
            pod
            for pod in inside
            if pod.labels.get("app.kubernetes.io/name") == name
            and (not role or pod.namespace_labels["cbmdhi/role"] == role)
        ]

    remote = [other for other in others if other is REMOTE]
    sources = {"anyone": others, "monitoring": [MONITORING]}.get(arrow.source, of(arrow.source))
    targets = {"collector": [COLLECTOR]}.get(arrow.target, of(arrow.target))
    port = PORTS[arrow.target][arrow.listener]
    if arrow.target in allowed_calls.ANYWHERE:
        targets = [actor for actor in [*inside, *others] if port in actor.ports.values()]
    pairs = [
        (source, target)
        for source in sources
        for target in targets
        if arrow.where != "own"
        or source in others
        or target in others
        or source.namespace == target.namespace
    ]
    if arrow.where != "own":
        pairs += [(source, target) for source in remote for target in targets]
        pairs += [
            (source, target) for source in sources for target in remote if port in target.ports.values()
        ]
    return {(str(source), str(target), port) for source, target in pairs}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_may_speak_is_what_the_architecture_draws(overlay: str) -> None:
    inside = pods(overlay)
    others = [OUTSIDE, FOREIGN, MONITORING, COLLECTOR, API_SERVER, STORE]
    if overlay == "production":
        others.append(REMOTE)
    actors = [*inside, *strangers(inside), *others]

    found = let_through(of_kind(overlay, "NetworkPolicy"), actors)

    assert len(found) > 30
    assert found == drawn(overlay, inside, others)


def test_a_backup_reaches_the_api_server_and_the_store_and_no_program() -> None:
    inside = pods("laptop")
    actors = [*inside, *strangers(inside), FOREIGN, MONITORING, COLLECTOR, API_SERVER, STORE]
    found = let_through(of_kind("laptop", "NetworkPolicy"), actors)
    for name in ("backup", "restore"):
        assert {(target, port) for source, target, port in found if source == f"mercy/{name}"} == {
            ("apiserver", 6443),
            ("store", 443),
        }


def test_a_policy_that_is_lost_is_missed() -> None:
    inside = pods("laptop")
    policies = of_kind("laptop", "NetworkPolicy")
    without = [policy for policy in policies if policy["metadata"]["name"] != "storage"]

    lost = let_through(policies, inside) - let_through(without, inside)

    assert ("mercy/storage", "mercy/ipfs", 5001) in lost
    assert ("mercy/gateway", "mercy/storage", 7411) in lost


def test_without_the_refusal_by_default_a_stranger_gets_in() -> None:
    inside = pods("laptop")
    policies = of_kind("laptop", "NetworkPolicy")
    without = [policy for policy in policies if policy["metadata"]["name"] not in ("default-deny", "ipfs")]

    assert not allowed(policies, OUTSIDE, _pod(inside, "mercy", "ipfs"), 5001)
    assert allowed(
        [p for p in without if "ipfs" not in p["metadata"]["name"]],
        OUTSIDE,
        _pod(inside, "mercy", "ipfs"),
        5001,
    )


def test_a_kubo_node_is_driven_by_its_own_storage_alone() -> None:
    inside = pods("laptop")
    actors = [*inside, *strangers(inside), OUTSIDE, FOREIGN, MONITORING, COLLECTOR]
    rpc = {
        connection
        for connection in let_through(of_kind("laptop", "NetworkPolicy"), actors)
        if connection[2] == 5001
    }

    assert rpc == {("mercy/storage", "mercy/ipfs", 5001), ("lakeside/storage", "lakeside/ipfs", 5001)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_program_listens_where_the_arrows_point(overlay: str) -> None:
    for document in all_workloads(overlay):
        listeners = {port["name"]: port["containerPort"] for port in container(document)["ports"]}
        assert listeners == PORTS[program(document)]


def test_a_table_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="no table"):
        allowed_calls.parse("# Architecture\n")
    table = f"{allowed_calls.HEADING}\n\n| from | to | listener | where |\n|---|---|---|---|\n"
    assert allowed_calls.parse(table + "| a, b | c | grpc | own |\n") == [
        Arrow("a", "c", "grpc", "own"),
        Arrow("b", "c", "grpc", "own"),
    ]
    with pytest.raises(ValueError, match="columns"):
        allowed_calls.parse(table + "| a | b | grpc |\n")
    with pytest.raises(ValueError, match="not own, members or ordering"):
        allowed_calls.parse(table + "| a | b | grpc | there |\n")
    with pytest.raises(ValueError, match="twice"):
        allowed_calls.parse(table + "| a | b | grpc | own |\n| a | b | grpc | own |\n")


def _pod(inside: list[Actor], namespace: str, name: str) -> Actor:
    [found] = [pod for pod in inside if (pod.namespace, pod.name) == (namespace, name)]
    return found
