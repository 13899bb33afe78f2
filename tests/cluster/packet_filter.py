"""NetworkPolicies as rules of the node's packet filter (nftables). Pure.

Whatever goes from or to a pod passes the node, because each pod has a cable of its own (node_config.py). What
is worked out is who may open which connection (reach.py); everything else of the pods' addresses is dropped,
also for a pod so new that nothing is known of it yet. The node's own calls, such as probes, are let through.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.cluster import policy_semantics
from tests.cluster.policy_semantics import Actor

TABLE = "inet network_policies"


@dataclass(frozen=True)
class Pod:
    """A pod with its address, and where it listens: (protocol, port)."""

    actor: Actor
    address: str
    listeners: frozenset[tuple[str, int]]


def pods(documents: Iterable[dict[str, Any]], namespaces: Iterable[dict[str, Any]]) -> list[Pod]:
    """The pods that have an address and still run."""
    labels = {found["metadata"]["name"]: found["metadata"].get("labels", {}) for found in namespaces}
    return [
        _pod(document, labels.get(document["metadata"]["namespace"], {}))
        for document in documents
        if document.get("status", {}).get("podIP")
        and document["status"].get("phase") not in ("Succeeded", "Failed")
        and not document["spec"].get("hostNetwork")
    ]


def ruleset(known: Sequence[Pod], policies: Sequence[dict[str, Any]], addresses: str) -> str:
    """What `nft -f` takes, in one step, in place of what was there. `addresses`: the range of all pods."""
    connections = sorted(
        (source.address, target.address, protocol.lower(), port)
        for source in known
        for target in known
        for protocol, port in target.listeners
        # A pod always reaches itself.
        if source is target or policy_semantics.allowed(policies, source.actor, target.actor, port, protocol)
    )
    free = sorted(
        pod.address
        for pod in known
        if not policy_semantics.isolated(policies, pod.actor, policy_semantics.EGRESS)
    )
    out = sorted(
        f"{pod.address} . {port}"
        for pod in known
        for port in policy_semantics.open_ports(policies, pod.actor)
    )
    allowed = {
        protocol: [
            f"{source} . {target} . {port}" for source, target, used, port in connections if used == protocol
        ]
        for protocol in ("tcp", "udp")
    }
    return f"""table {TABLE} {{}}
delete table {TABLE}
table {TABLE} {{
  set tcp_ways {{ type ipv4_addr . ipv4_addr . inet_service; {_elements(allowed["tcp"])} }}
  set udp_ways {{ type ipv4_addr . ipv4_addr . inet_service; {_elements(allowed["udp"])} }}
  set goes_out {{ type ipv4_addr; {_elements(free)} }}
  set goes_out_at {{ type ipv4_addr . inet_service; {_elements(out)} }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    ip saddr . ip daddr . tcp dport @tcp_ways accept
    ip saddr . ip daddr . udp dport @udp_ways accept
    ip daddr {addresses} drop
    ip saddr @goes_out accept
    ip saddr . tcp dport @goes_out_at accept
    ip saddr {addresses} drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    ip saddr @goes_out accept
    ip saddr . tcp dport @goes_out_at accept
    ip saddr {addresses} drop
  }}
}}
"""


def _pod(document: dict[str, Any], namespace_labels: dict[str, str]) -> Pod:
    metadata, spec = document["metadata"], document["spec"]
    ports = [port for container in spec["containers"] for port in container.get("ports", [])]
    actor = Actor(
        metadata["name"],
        metadata["namespace"],
        metadata.get("labels", {}),
        namespace_labels,
        ports={port["name"]: port["containerPort"] for port in ports if "name" in port},
    )
    listeners = frozenset((port.get("protocol", "TCP"), int(port["containerPort"])) for port in ports)
    return Pod(actor, document["status"]["podIP"], listeners)


def _elements(found: Sequence[str]) -> str:
    # An empty list of elements is none at all, which nft does not take.
    return f"elements = {{ {', '.join(found)} }};" if found else ""
