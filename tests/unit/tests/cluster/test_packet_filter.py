"""The packet filter lets through what the policies do, and nothing for pods that nobody knows."""

import re
from typing import Any

import pytest

from tests.cluster import packet_filter, policy_semantics
from tests.cluster.node_config import PODS_RANGE
from tests.unit.ops.manifests.manifests import all_workloads, cron_jobs, of_kind, template

KUBE_SYSTEM = {"kubernetes.io/metadata.name": "kube-system"}


@pytest.fixture
def addresses() -> dict[str, str]:
    return {}


@pytest.fixture
def rules(addresses: dict[str, str]) -> str:
    """Of the overlay `laptop`, with a DNS server and a stranger."""
    described = [*all_workloads("laptop"), *cron_jobs("laptop")]
    documents = [_running(doc["metadata"], template(doc)) for doc in described]
    dns: dict[str, Any] = {
        "metadata": {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"containers": [{"ports": [{"containerPort": 53, "protocol": "UDP"}]}]},
    }
    stranger: dict[str, Any] = {
        "metadata": {"name": "stranger", "namespace": "default"},
        "spec": {"containers": [{}]},
    }
    documents += [dns, stranger]
    for number, document in enumerate(documents):
        address = f"10.200.0.{number + 2}"
        addresses[f"{document['metadata']['namespace']}/{document['metadata']['name']}"] = address
        document["status"] = {"podIP": address, "phase": "Running"}
    namespaces = [
        *of_kind("laptop", "Namespace"),
        {"metadata": {"name": "kube-system", "labels": KUBE_SYSTEM}},
    ]
    policies = of_kind("laptop", "NetworkPolicy")
    return packet_filter.ruleset(packet_filter.pods(documents, namespaces), policies, PODS_RANGE)


def _running(metadata: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    labels = template["metadata"]["labels"]
    return {
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels},
        "spec": template["spec"],
    }


@pytest.mark.parametrize(
    ("source", "target", "port", "through"),
    [
        ("mercy/gateway", "mercy/ledger", 7411, True),
        ("mercy/storage", "mercy/ipfs", 5001, True),
        ("mercy/storage", "lakeside/storage", 7411, True),
        ("mercy/peer", "ordering/orderer", 7050, True),
        ("mercy/gateway", "mercy/ipfs", 5001, False),
        ("lakeside/storage", "mercy/ipfs", 5001, False),
        ("mercy/gateway", "lakeside/ledger", 7411, False),
        ("default/stranger", "mercy/gateway", 7411, True),
        ("default/stranger", "mercy/ledger", 7411, False),
        ("mercy/ledger", "mercy/ledger", 7412, True),
    ],
)
def test_connections_are_as_the_policies_say(
    rules: str, addresses: dict[str, str], source: str, target: str, port: int, through: bool
) -> None:
    assert (f"{addresses[source]} . {addresses[target]} . {port}" in _set(rules, "tcp_ways")) is through


def test_names_are_asked_of_the_clusters_dns(rules: str, addresses: dict[str, str]) -> None:
    dns = addresses["kube-system/coredns"]
    assert f"{addresses['mercy/gateway']} . {dns} . 53" in _set(rules, "udp_ways")


def test_a_pod_without_policies_goes_out_and_one_with_them_does_not(
    rules: str, addresses: dict[str, str]
) -> None:
    free = _set(rules, "goes_out")
    assert addresses["kube-system/coredns"] in free
    assert addresses["mercy/gateway"] not in free


def test_a_backup_goes_out_at_the_ports_of_the_api_server_and_the_store(
    rules: str, addresses: dict[str, str]
) -> None:
    out = _set(rules, "goes_out_at")
    backup = addresses["mercy/backup"]
    assert {way for way in out if way.startswith(f"{backup} ")} == {f"{backup} . 443", f"{backup} . 6443"}
    assert not any(way.startswith(f"{addresses['mercy/gateway']} ") for way in out)
    # Not to any pod: those are decided before.
    forward = rules.partition("chain forward")[2]
    assert forward.index(f"ip daddr {PODS_RANGE} drop") < forward.index("@goes_out_at accept")


def test_whatever_is_not_known_is_dropped(rules: str) -> None:
    forward = rules.partition("chain forward")[2].partition("}")[0]
    assert forward.strip().endswith(f"ip saddr {PODS_RANGE} drop")


def test_a_cluster_without_pods_has_rules_too() -> None:
    assert "elements" not in packet_filter.ruleset([], [], PODS_RANGE)


def test_a_selector_that_is_not_worked_out_is_an_error_and_no_guess() -> None:
    policy = {
        "metadata": {"namespace": "mercy"},
        "spec": {"podSelector": {"matchExpressions": []}, "policyTypes": ["Ingress"]},
    }
    with pytest.raises(ValueError, match="not worked out"):
        policy_semantics.isolated([policy], policy_semantics.Actor("pod", "mercy"), policy_semantics.INGRESS)


def _set(rules: str, name: str) -> set[str]:
    [found] = re.findall(rf"set {name} {{[^;]*; (?:elements = {{ ([^}}]*) }};)? }}", rules)
    return set(found.split(", "))
