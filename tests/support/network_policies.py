"""What NetworkPolicies let through, worked out as the Kubernetes documentation defines it."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Actor:
    """A pod, or with `address` and without namespace somebody outside of the cluster."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Listeners by name."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def allowed(policies: Sequence[dict[str, Any]], source: Actor, target: Actor, port: int) -> bool:
    """May `source` open a TCP connection to a port of `target`?"""
    return _passes(policies, source, target, port, "Egress") and _passes(
        policies, target, source, port, "Ingress"
    )


def _passes(policies: Sequence[dict[str, Any]], pod: Actor, other: Actor, port: int, direction: str) -> bool:
    """Do the policies that select `pod` let this through? Without any, everything passes."""
    selecting = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and _matches(policy["spec"]["podSelector"], pod.labels)
        and direction in policy["spec"]["policyTypes"]
    ]
    rules, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    listener = other if direction == "Egress" else pod
    return not selecting or any(
        (not rule.get(peers) or any(_is(peer, pod.namespace, other) for peer in rule[peers]))
        and (not rule.get("ports") or any(_is_port(wanted, port, listener) for wanted in rule["ports"]))
        for spec in selecting
        for rule in spec.get(rules, [])
    )


def _is(peer: Mapping[str, Any], own_namespace: str, other: Actor) -> bool:
    if "ipBlock" in peer:
        block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return bool(other.address) and ipaddress.ip_address(other.address) in block
    if not other.namespace:
        return False
    in_namespace = (
        _matches(peer["namespaceSelector"], other.namespace_labels)
        if "namespaceSelector" in peer
        else other.namespace == own_namespace
    )
    return in_namespace and _matches(peer.get("podSelector", {}), other.labels)


def _is_port(wanted: Mapping[str, Any], port: int, listener: Actor) -> bool:
    if wanted.get("protocol", "TCP") != "TCP":
        return False
    named = wanted["port"]
    return port == (named if isinstance(named, int) else listener.ports.get(named))


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, f"not worked out here: {selector}"
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
