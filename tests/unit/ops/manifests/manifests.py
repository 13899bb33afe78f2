"""The overlays, rendered once, and questions about them."""

from functools import cache
from typing import Any

from ops.manifests import rendering
from ops.manifests.rendering import Document, workloads

OVERLAYS = rendering.names()


@cache
def rendered(overlay: str) -> tuple[Document, ...]:
    """The documents of an overlay."""
    return tuple(rendering.render(overlay))


def of_kind(overlay: str, kind: str) -> list[Document]:
    """Its documents of a kind."""
    return [document for document in rendered(overlay) if document["kind"] == kind]


def all_workloads(overlay: str) -> list[Document]:
    """Its Deployments and StatefulSets."""
    return workloads(list(rendered(overlay)))


def cron_jobs(overlay: str) -> list[Document]:
    """Its CronJobs."""
    return of_kind(overlay, "CronJob")


def workload(overlay: str, namespace: str, name: str) -> Document:
    """One of them."""
    [found] = [
        document
        for document in all_workloads(overlay)
        if (document["metadata"]["namespace"], document["metadata"]["name"]) == (namespace, name)
    ]
    return found


def template(document: Document) -> dict[str, Any]:
    """After what a workload or a CronJob makes its pods."""
    spec = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
    return spec["template"]


def program(document: Document) -> str:
    """What it runs: `gateway`, `peer`, …"""
    return template(document)["metadata"]["labels"]["app.kubernetes.io/name"]


def pod(document: Document) -> dict[str, Any]:
    """The pod that it makes."""
    return template(document)["spec"]


def container(document: Document) -> dict[str, Any]:
    """The one container of that pod."""
    [found] = pod(document)["containers"]
    return found


def config_map(overlay: str, namespace: str, name: str) -> dict[str, str]:
    """The data of a ConfigMap, whose name ends in a hash of it."""
    [found] = [
        document["data"]
        for document in of_kind(overlay, "ConfigMap")
        if document["metadata"]["namespace"] == namespace and document["metadata"]["name"] == name
    ]
    return found


# What is in no manifest and still must have a form (tests/cluster/secrets.py makes it).
_OF_THE_OPERATOR = {"genesis-sha256": "ab" * 32}


def environment(overlay: str, document: Document) -> dict[str, str]:
    """The container's environment as the kubelet would make it; what is not made here is left empty."""
    namespace = document["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container(document).get("envFrom", []):
        found |= config_map(overlay, namespace, source["configMapRef"]["name"])
    for variable in container(document).get("env", []):
        value = variable.get("value")
        if value is None:
            reference = variable["valueFrom"]["configMapKeyRef"]
            made_here = reference["name"].startswith("organisation")
            if made_here:
                value = config_map(overlay, namespace, reference["name"])[reference["key"]]
            else:
                value = _OF_THE_OPERATOR.get(reference["key"], "")
        for name, known in found.items():
            value = value.replace(f"$({name})", known)
        found[variable["name"]] = value
    return found
