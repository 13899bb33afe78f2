"""What a bare cluster lacks and every real one has: names, metrics of pods, and volumes. As documents."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ops.manifests.rendering import WORKLOADS, Document
from tests.cluster import node_config

_SYSTEM = "kube-system"
_COREFILE = f""".:53 {{
    errors
    health
    ready
    kubernetes {node_config.DOMAIN} in-addr.arpa {{
        ttl 5
    }}
    cache 5
    loadbalance
}}
"""
_STORAGE_CLASS = "local"
_METRICS_PORT = 4443
STATES_PORT = 8080


def dns() -> list[Document]:
    """CoreDNS, where and as kubeadm has it."""
    labels = {"k8s-app": "kube-dns"}
    rules = [
        {
            "apiGroups": [""],
            "resources": ["endpoints", "services", "pods", "namespaces"],
            "verbs": ["list", "watch"],
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    container = {
        "name": "coredns",
        "command": ["coredns", "-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "securityContext": _security(add=["NET_BIND_SERVICE"]),
    }
    return [
        *_account("coredns", rules),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "coredns", "namespace": _SYSTEM},
            "data": {"Corefile": _COREFILE},
        },
        _deployment("coredns", labels, container, [{"name": "config", "configMap": {"name": "coredns"}}]),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": _SYSTEM, "labels": labels},
            "spec": {
                "clusterIP": node_config.DNS_ADDRESS,
                "selector": labels,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                ],
            },
        },
    ]


def metrics() -> list[Document]:
    """metrics-server, for `kubectl top` and autoscalers, with the rights that its own manifests give it."""
    name = "metrics-server"
    labels = {"k8s-app": name}
    rules = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    container = {
        "name": name,
        "command": [
            name,
            f"--secure-port={_METRICS_PORT}",
            "--cert-dir=/tmp",
            "--kubelet-preferred-address-types=InternalIP",
            # The kubelet's certificate is of its own making.
            "--kubelet-insecure-tls",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=5s",
        ],
        "ports": [{"name": "https", "containerPort": _METRICS_PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "https", "scheme": "HTTPS"},
            "periodSeconds": 2,
            "failureThreshold": 3,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - of its own pod
        "securityContext": {**_security(), "runAsNonRoot": True, "runAsUser": 1000},
    }
    return [
        *_account(name, rules),
        _binding(f"{name}:system:auth-delegator", "ClusterRole", "system:auth-delegator", name),
        {
            **_binding(f"{name}-auth-reader", "Role", "extension-apiserver-authentication-reader", name),
            "kind": "RoleBinding",
            "metadata": {"name": f"{name}-auth-reader", "namespace": _SYSTEM},
        },
        _deployment(name, labels, container, [{"name": "tmp", "emptyDir": {}}]),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": _SYSTEM, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "https", "port": 443, "targetPort": "https"}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "service": {"name": name, "namespace": _SYSTEM},
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
            },
        },
    ]


def states() -> list[Document]:
    """kube-state-metrics, of CronJobs alone: when each ended well, as the rules of backups ask."""
    name = "kube-state-metrics"
    labels = {"app.kubernetes.io/name": name}
    rules = [{"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["list", "watch"]}]
    container = {
        "name": name,
        "command": [name, "--resources=cronjobs", f"--port={STATES_PORT}", "--telemetry-port=8081"],
        "ports": [{"name": "http-metrics", "containerPort": STATES_PORT}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8081}, "periodSeconds": 1},
        "securityContext": {**_security(), "runAsNonRoot": True, "runAsUser": 1000},
    }
    return [*_account(name, rules), _deployment(name, labels, container, [])]


def volumes(folder: Path, claims: int) -> list[Document]:
    """A default StorageClass, and as many volumes of it on this node's disk as will be claimed."""
    made: list[Document] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": _STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node_config.NAME]}
    for number in range(claims):
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"disk-{number}"},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": _STORAGE_CLASS,
                    "local": {"path": str(folder / f"disk-{number}")},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
                },
            }
        )
    return made


def claims(documents: Sequence[Document]) -> int:
    """How many volumes will be claimed: by workloads, all replicas together, and beside them."""
    of_workloads = sum(
        len(document["spec"].get("volumeClaimTemplates", [])) * document["spec"].get("replicas", 1)
        for document in documents
        if document["kind"] in WORKLOADS
    )
    return of_workloads + sum(document["kind"] == "PersistentVolumeClaim" for document in documents)


def from_component(autoscaler: Document, namespace: str, cpu: str) -> Document:
    """A component's HorizontalPodAutoscaler for one small node: one to three pods, by CPU alone.

    cpu  of each pod on average, such as `150m`: what a pod asks for on a small node says nothing
    """
    made: dict[str, Any] = json.loads(json.dumps(autoscaler))
    made["metadata"]["namespace"] = namespace
    made["spec"] |= {
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": cpu}},
            }
        ],
    }
    return made


def _account(name: str, rules: list[dict[str, Any]]) -> list[Document]:
    role = f"system:{name}"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": _SYSTEM}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": rules,
        },
        _binding(role, "ClusterRole", role, name),
    ]


def _binding(name: str, kind: str, role: str, account: str) -> Document:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": _SYSTEM}],
    }


def _deployment(
    name: str, labels: dict[str, str], container: dict[str, Any], volumes: list[dict[str, Any]]
) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": _SYSTEM, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "priorityClassName": "system-cluster-critical",
                    "containers": [
                        {**container, "image": node_config.IMAGE, "imagePullPolicy": "Never"},
                    ],
                    "volumes": volumes,
                },
            },
        },
    }


def _security(add: Sequence[str] = ()) -> dict[str, Any]:
    capabilities: dict[str, list[str]] = {"drop": ["ALL"]}
    if add:
        capabilities["add"] = list(add)
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": capabilities,
    }
