"""NetworkPolicies out of the arrows: everything is refused but these."""

from collections.abc import Iterable, Sequence
from typing import Any

from ops.manifests.allowed_calls import (
    ANYONE,
    ANYWHERE,
    COLLECTOR,
    MEMBERS,
    MONITORING,
    ORDERING,
    OWN,
    Arrow,
)
from ops.manifests.listeners import PORTS

Document = dict[str, Any]

ROLE = "cbmdhi/role"
NAME = "app.kubernetes.io/name"
# What the operator's own namespaces are labelled with.
OPERATOR = {MONITORING: {ROLE: "monitoring"}, COLLECTOR: {ROLE: "collector"}}


def within(arrows: Sequence[Arrow], programs: Iterable[str]) -> list[Document]:
    """The policies of one namespace: nothing, DNS, and for each program the arrows that stay at home."""
    return [
        _policy("default-deny", {}, {"policyTypes": ["Ingress", "Egress"]}),
        _policy(
            "dns",
            {},
            {
                "policyTypes": ["Egress"],
                "egress": [
                    {
                        "to": [
                            {
                                "namespaceSelector": _labels({"kubernetes.io/metadata.name": "kube-system"}),
                                "podSelector": _labels({"k8s-app": "kube-dns"}),
                            }
                        ],
                        "ports": [_port(53, "UDP"), _port(53)],
                    }
                ],
            },
        ),
        *of_programs(arrows, programs),
    ]


def of_programs(arrows: Sequence[Arrow], programs: Iterable[str]) -> list[Document]:
    """For each program the arrows that stay at home."""
    documents: list[Document] = []
    for program in programs:
        ingress = [
            {**_from(arrow), "ports": [_port_of(arrow)]}
            for arrow in arrows
            if arrow.target == program and arrow.where == OWN
        ]
        egress = [
            {**_to(arrow), "ports": [_port_of(arrow)]}
            for arrow in arrows
            if arrow.source == program and arrow.where == OWN
        ]
        documents += _of_program(program, program, _merged(ingress), _merged(egress))
    return documents


def across(arrows: Sequence[Arrow], programs: Iterable[str], elsewhere: Sequence[str] = ()) -> list[Document]:
    """The policies for arrows that leave an organisation.

    elsewhere  address ranges of the other organisations; empty: they are namespaces of this cluster
    """
    documents: list[Document] = []
    for program in programs:
        ingress = [
            {"from": _others(elsewhere, MEMBERS, arrow.source), "ports": [_port_of(arrow)]}
            for arrow in arrows
            if arrow.target == program and arrow.where in (MEMBERS, ORDERING)
        ]
        egress = [
            {"to": _others(elsewhere, arrow.where, arrow.target), "ports": [_port_of(arrow)]}
            for arrow in arrows
            if arrow.source == program and arrow.where in (MEMBERS, ORDERING)
        ]
        documents += _of_program(f"{program}-consortium", program, ingress, egress)
    return documents


def _of_program(name: str, program: str, ingress: list[Document], egress: list[Document]) -> list[Document]:
    if not ingress and not egress:
        return []
    rules = {"ingress": ingress, "egress": egress}
    given = {kind: found for kind, found in rules.items() if found}
    types = [kind.capitalize() for kind in given]
    return [_policy(name, _labels({NAME: program}), {"policyTypes": types, **given})]


def _from(arrow: Arrow) -> Document:
    # No peer at all: from everywhere.
    return {} if arrow.source == ANYONE else {"from": [_pods(arrow.source)]}


def _to(arrow: Arrow) -> Document:
    # No peer at all: to everywhere.
    return {} if arrow.target in ANYWHERE else {"to": [_pods(arrow.target)]}


def _pods(name: str) -> Document:
    if name in OPERATOR:
        return {"namespaceSelector": _labels(OPERATOR[name])}
    return {"podSelector": _labels({NAME: name})}


def _others(elsewhere: Sequence[str], where: str, program: str) -> list[Document]:
    if elsewhere:
        # Every member's: the own one is here.
        own = [_pods(program)] if where == MEMBERS else []
        return [*own, *({"ipBlock": {"cidr": cidr}} for cidr in elsewhere)]
    role = "ordering" if where == ORDERING else "member"
    return [{"namespaceSelector": _labels({ROLE: role}), "podSelector": _labels({NAME: program})}]


def _merged(rules: list[Document]) -> list[Document]:
    """Rules for the same peers become one with all their ports."""
    merged: list[Document] = []
    for rule in rules:
        peers = {key: value for key, value in rule.items() if key != "ports"}
        for known in merged:
            if {key: value for key, value in known.items() if key != "ports"} == peers:
                known["ports"] = [*known["ports"], *rule["ports"]]
                break
        else:
            merged.append(rule)
    return merged


def _policy(name: str, selector: Document, spec: Document) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": selector, **spec},
    }


def _labels(labels: dict[str, str]) -> Document:
    return {"matchLabels": labels}


def _port_of(arrow: Arrow) -> Document:
    return _port(PORTS[arrow.target][arrow.listener])


def _port(port: int, protocol: str = "TCP") -> Document:
    return {"protocol": protocol, "port": port}
