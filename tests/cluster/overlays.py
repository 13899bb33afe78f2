"""`make k8s-test`: every overlay on a real API server, made into Pods by the real controllers."""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate

from ops.manifests import rendering
from ops.manifests.rendering import Document, workloads
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane, ControlPlaneError

VERSION = "1.36"
_MANAGER = "k8s-test"
_PODS_SECONDS = 90.0
_GONE_SECONDS = 120.0
_LEVEL = "pod-security.kubernetes.io/enforce"
_WARNING = "pod-security.kubernetes.io/warn"
_MISSPELT = "terminationGraceSeconds"


class TrialFailed(Exception):
    """What is wrong with an overlay."""


def main(argv: Sequence[str] | None = None) -> int:
    """Try the overlays named, or all; 0 when each stands."""
    parser = argparse.ArgumentParser(prog="k8s-test", description=__doc__)
    parser.add_argument(
        "kustomizations", nargs="*", type=Path, help="folders; all overlays when none is named"
    )
    given: list[Path] = parser.parse_args(argv).kustomizations
    folders = given or [rendering.OVERLAYS / name for name in rendering.names()]
    # So that an end from outside, too, leaves nothing running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="cbmdhi-k8s-") as folder:
            _try(folders, Path(folder))
    except (TrialFailed, ControlPlaneError, ValueError) as exc:
        print(f"  ✗  {exc}", flush=True)
        return 1
    print("Every overlay stands.")
    return 0


def _try(folders: list[Path], state: Path) -> None:
    rendered = {folder.name: rendering.build(folder) for folder in folders}
    for name, documents in rendered.items():
        _say(f"{name}: {check_schemas(documents)} documents are as the schemas of {VERSION} say")
    started = time.monotonic()
    with ControlPlane(state) as cluster:
        version = json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]["gitVersion"]
        _say(f"API server {version} and its controllers run ({time.monotonic() - started:.0f} s)")
        definitions = crds.files()
        named = [f"--filename={path}" for path in definitions]
        cluster.kubectl("apply", "--server-side", *named, may_warn=True)
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        _say(f"{len(definitions)} definitions of custom resources are established")
        for name, documents in rendered.items():
            _say(f"{name}: {try_overlay(cluster, documents)}")
        _refusals(cluster, next(iter(rendered.values())))


def check_schemas(documents: list[Document]) -> int:
    """How many documents of Kubernetes' own kinds there are; each is checked against its schema.

    Raises:
        TrialFailed: one is not right.
    """
    count = 0
    for document in documents:
        group = document["apiVersion"].partition("/")[0]
        if "." in group and not group.endswith(".k8s.io"):
            continue  # a custom resource: the API server checks it by its definition
        try:
            kubernetes_validate.validate(document, VERSION, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as exc:
            raise TrialFailed(f"{_named(document)} is not as the schema says: {exc}") from exc
        count += 1
    return count


def try_overlay(cluster: ControlPlane, documents: list[Document]) -> str:
    """Apply, let the controllers make pods, remove it all again; what was proved, in words.

    Raises:
        TrialFailed: a pod is refused, or is not there in time.
        ControlPlaneError: the API server refuses a document, or warns of one.
    """
    namespaces = [document for document in documents if document["kind"] == "Namespace"]
    lax = [name for name in map(_named, namespaces) if not _restricted(name, namespaces)]
    if lax:
        raise TrialFailed(f"{', '.join(lax)}: Pod Security `restricted` is not enforced")
    try:
        cluster.apply(namespaces, _MANAGER)
        names = [document["metadata"]["name"] for document in namespaces]
        # Without its service account a namespace refuses every pod for a moment.
        cluster.wait(lambda: all(_has_account(cluster, name) for name in names), "service accounts", 30)
        cluster.apply(documents, _MANAGER)
        pods = _pods(cluster, documents, names)
        return (
            f"{len(documents)} documents applied strictly, {len(workloads(documents))} workloads became"
            f" {pods} pods in {len(names)} namespaces at `restricted`, none refused"
        )
    finally:
        cluster.kubectl(
            "delete",
            "namespace",
            *(document["metadata"]["name"] for document in namespaces),
            "--ignore-not-found",
            f"--timeout={_GONE_SECONDS:g}s",
            seconds=_GONE_SECONDS + 10,
        )


def _pods(cluster: ControlPlane, documents: list[Document], namespaces: list[str]) -> int:
    """How many pods the controllers made, once every workload has all it asks for."""
    wanted: dict[tuple[str, str, str], int] = {}

    def complete() -> bool:
        refused = [refusal for name in namespaces for refusal in _refused(cluster, name)]
        if refused:
            raise TrialFailed("; ".join(refused))
        for name in namespaces:
            for found in cluster.get("deployments,statefulsets", name):
                key = (found["kind"], name, found["metadata"]["name"])
                wanted[key] = max(found["spec"]["replicas"], _least(documents, key))
        there = _counted([pod for name in namespaces for pod in cluster.get("pods", name)])
        return len(wanted) == len(workloads(documents)) and all(
            there.get((namespace, program), 0) == count
            for (namespace, program), count in _by_program(wanted, documents).items()
        )

    cluster.wait(complete, f"pods of {len(workloads(documents))} workloads", _PODS_SECONDS)
    return sum(wanted.values())


def _least(documents: list[Document], key: tuple[str, str, str]) -> int:
    """Below that an autoscaler does not leave a workload."""
    kind, namespace, name = key
    for document in documents:
        if document["kind"] == "HorizontalPodAutoscaler" and document["metadata"]["namespace"] == namespace:
            target = document["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == (kind, name):
                return int(document["spec"]["minReplicas"])
    return 0


def _by_program(
    wanted: dict[tuple[str, str, str], int], documents: list[Document]
) -> dict[tuple[str, str], int]:
    """Pods by namespace and label `app.kubernetes.io/name`; several workloads may share one."""
    labels = {
        (document["kind"], document["metadata"]["namespace"], document["metadata"]["name"]): document["spec"][
            "template"
        ]["metadata"]["labels"]["app.kubernetes.io/name"]
        for document in workloads(documents)
    }
    counts: dict[tuple[str, str], int] = {}
    for key, count in wanted.items():
        program = (key[1], labels[key])
        counts[program] = counts.get(program, 0) + count
    return counts


def _counted(pods: list[Document]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for pod in pods:
        metadata = pod["metadata"]
        key = (metadata["namespace"], metadata["labels"]["app.kubernetes.io/name"])
        counts[key] = counts.get(key, 0) + 1
    return counts


def _refused(cluster: ControlPlane, namespace: str) -> list[str]:
    """What the controllers were not allowed to make, in the API server's words."""
    return [
        f"{namespace}: {event.get('message', 'refused')}"
        for event in cluster.get("events", namespace)
        if event.get("reason") == "FailedCreate"
    ]


def _refusals(cluster: ControlPlane, documents: list[Document]) -> None:
    """See the trial fail: a document that asks for too much, and one with a key that does not exist."""
    for what, bad, by in (
        ("a workload that asks for root", _as_root(documents), "violates PodSecurity"),
        ("a key that does not exist", _misspelt(documents), f'unknown field "{_MISSPELT}"'),
    ):
        try:
            try_overlay(cluster, bad)
        except (TrialFailed, ControlPlaneError) as exc:
            _, found, _ = str(exc).partition(by)
            if not found:
                raise TrialFailed(f"{what} was refused, but for another reason: {exc}") from exc
            _say(f"{what} is refused, as it must be: {by}")
        else:
            raise TrialFailed(f"{what} was let through: this trial proves nothing")


def _as_root(documents: list[Document]) -> list[Document]:
    bad = _copy(documents)
    for document in bad:
        if document["kind"] == "Namespace":
            # Without the warning at once: it is the pods that have to be refused.
            document["metadata"]["labels"][_WARNING] = "privileged"
    workloads(bad)[0]["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"runAsUser": 0}
    return bad


def _misspelt(documents: list[Document]) -> list[Document]:
    bad = _copy(documents)
    workloads(bad)[0]["spec"]["template"]["spec"][_MISSPELT] = 10
    return bad


def _copy(documents: list[Document]) -> list[Document]:
    return json.loads(json.dumps(documents))


def _has_account(cluster: ControlPlane, namespace: str) -> bool:
    return any(found["metadata"]["name"] == "default" for found in cluster.get("serviceaccounts", namespace))


def _restricted(name: str, namespaces: list[Document]) -> bool:
    return any(
        _named(document) == name and document["metadata"].get("labels", {}).get(_LEVEL) == "restricted"
        for document in namespaces
    )


def _named(document: dict[str, Any]) -> str:
    return f"{document['kind']} {document['metadata'].get('namespace', '')}/{document['metadata']['name']}"


def _say(text: str) -> None:
    print(f"  ✓  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
