"""Pods as an operator looks at them: are they ready, which are there, and what keeps those that are not."""

import json
from collections.abc import Iterable, Sequence

from ops.manifests.rendering import Document
from tests.cluster.control_plane import ControlPlane, ControlPlaneError
from tests.cluster.node import is_ready

NAME = "app.kubernetes.io/name"
_LOG_LINES = 12


def roll_out(cluster: ControlPlane, workloads: Iterable[Document], seconds: float) -> None:
    """Wait until every workload has all its pods, ready and of its present description.

    Raises:
        ControlPlaneError: not in time; with what keeps its pods, and the end of their logs.
    """
    for document in workloads:
        namespace = document["metadata"]["namespace"]
        wait(cluster, namespace, f"{document['kind'].lower()}/{document['metadata']['name']}", seconds)


def wait(cluster: ControlPlane, namespace: str, workload: str, seconds: float) -> None:
    """`kubectl rollout status`. See `roll_out`."""
    try:
        cluster.kubectl(
            *("rollout", "status", workload, f"--namespace={namespace}", f"--timeout={seconds:g}s"),
            seconds=seconds + 10,
        )
    except ControlPlaneError as exc:
        raise ControlPlaneError(f"{namespace}/{workload}: {exc}\n{explain(cluster, namespace)}") from exc


def of(cluster: ControlPlane, namespace: str, program: str) -> list[Document]:
    """A program's pods that are not ending."""
    return [
        pod
        for pod in cluster.get("pods", namespace)
        if pod["metadata"].get("labels", {}).get(NAME) == program
        and "deletionTimestamp" not in pod["metadata"]
    ]


def ids(pods: Iterable[Document]) -> set[str]:
    """What tells a pod from the one that had its name before."""
    return {pod["metadata"]["uid"] for pod in pods}


def addresses(cluster: ControlPlane, namespace: str, service: str) -> set[str]:
    """The addresses that a Service sends new connections to."""
    slices = cluster.kubectl(
        "get",
        "endpointslices",
        f"--namespace={namespace}",
        f"--selector=kubernetes.io/service-name={service}",
        "--output=json",
    )
    return {
        address
        for found in json.loads(slices)["items"]
        for endpoint in found.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready")
        for address in endpoint["addresses"]
    }


def unready(pods: Sequence[Document]) -> list[str]:
    """A line for each pod that is not ready: why, as far as its status tells."""
    lines: list[str] = []
    for pod in pods:
        if is_ready(pod):
            continue
        status = pod.get("status", {})
        reasons = [
            f"{container['name']} {kind}: {state.get('reason', '')} {state.get('message', '')}".strip()
            for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
            for kind, state in container.get("state", {}).items()
            if kind != "running" and state.get("reason") != "Completed"
        ]
        reasons += [
            condition["message"] for condition in status.get("conditions", []) if condition.get("message")
        ]
        where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        lines.append(f"{where} ({status.get('phase', 'unknown')}): {'; '.join(dict.fromkeys(reasons))}")
    return lines


def explain(cluster: ControlPlane, namespace: str) -> str:
    """What keeps the pods of a namespace from being ready, with the end of each one's log."""
    pods = cluster.get("pods", namespace)
    lines = unready(pods)
    for pod in pods:
        if not is_ready(pod):
            lines.append(f"--- log of {namespace}/{pod['metadata']['name']}")
            lines.append(_log(cluster, namespace, pod["metadata"]["name"]))
    return "\n".join(lines) or f"all pods of {namespace} are ready"


def _log(cluster: ControlPlane, namespace: str, pod: str) -> str:
    try:
        return cluster.kubectl(
            *("logs", pod, f"--namespace={namespace}", "--all-containers", f"--tail={_LOG_LINES}"),
            may_warn=True,
        ).rstrip()
    except ControlPlaneError as exc:
        return str(exc)
