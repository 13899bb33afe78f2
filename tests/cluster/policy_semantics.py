"""What NetworkPolicies let through, worked out as the Kubernetes documentation defines it."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

INGRESS, EGRESS = "Ingress", "Egress"


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


def allowed(
    policies: Sequence[dict[str, Any]], source: Actor, target: Actor, port: int, protocol: str = "TCP"
) -> bool:
    """May `source` open a connection to a port of `target`?"""
    outwards = _Way(target, port, protocol, target)
    inwards = _Way(source, port, protocol, target)
    return _passes(policies, source, EGRESS, outwards) and _passes(policies, target, INGRESS, inwards)


def isolated(policies: Sequence[dict[str, Any]], pod: Actor, direction: str) -> bool:
    """Is a pod refused everything in a direction but what its policies let through?"""
    return bool(_selecting(policies, pod, direction))


def open_ports(policies: Sequence[dict[str, Any]], pod: Actor) -> set[int]:
    """The TCP ports at which a pod's policies let it out to whatever address it likes."""
    return {
        wanted["port"]
        for spec in _selecting(policies, pod, EGRESS)
        for rule in spec.get("egress", [])
        if not rule.get("to")
        for wanted in rule["ports"]
        if wanted.get("protocol", "TCP") == "TCP"
    }


@dataclass(frozen=True)
class _Way:
    """The connection as one end sees it: who is at the other, and which port of the listener it is to."""

    other: Actor
    port: int
    protocol: str
    listener: Actor


def _selecting(policies: Sequence[dict[str, Any]], pod: Actor, direction: str) -> list[dict[str, Any]]:
    return [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and _matches(policy["spec"]["podSelector"], pod.labels)
        and direction in policy["spec"]["policyTypes"]
    ]


def _passes(policies: Sequence[dict[str, Any]], pod: Actor, direction: str, way: _Way) -> bool:
    """Do the policies that select `pod` let this through? Without any, everything passes."""
    selecting = _selecting(policies, pod, direction)
    rules, peers = ("egress", "to") if direction == EGRESS else ("ingress", "from")
    return not selecting or any(
        (not rule.get(peers) or any(_is(peer, pod.namespace, way.other) for peer in rule[peers]))
        and (not rule.get("ports") or any(_is_port(wanted, way) for wanted in rule["ports"]))
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


def _is_port(wanted: Mapping[str, Any], way: _Way) -> bool:
    if wanted.get("protocol", "TCP") != way.protocol:
        return False
    named = wanted["port"]
    return way.port == (named if isinstance(named, int) else way.listener.ports.get(named))


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if not set(selector) <= {"matchLabels"}:
        raise ValueError(f"not worked out here: {selector}")
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
