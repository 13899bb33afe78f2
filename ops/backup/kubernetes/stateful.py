"""Which pods keep state, by their StatefulSets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ops.backup.errors import BackupError
from ops.backup.kubernetes.api import Document


@dataclass(frozen=True)
class Volume:
    """A pod's volume: its claim, and the folder of its container at which it is mounted."""

    pod: str
    container: str
    claim: str
    folder: str


def volumes(stateful_sets: Iterable[Document]) -> list[Volume]:
    """The volumes of all pods that keep state.

    Raises:
        BackupError: there are none, or a photograph of one could not be taken.
    """
    found = [volume for document in stateful_sets for volume in _volumes(document)]
    if not found:
        raise BackupError("There is nothing that keeps state in this namespace.", "Is it a member's?")
    return found


def _volumes(document: Document) -> Iterator[Volume]:
    name, spec = document["metadata"]["name"], document["spec"]
    pod = spec["template"]["spec"]
    if not spec["replicas"]:
        raise BackupError(
            f"{name} is scaled to 0, so that nothing can be read of it.",
            "Scale it up. A member at rest is backed up by snapshots of its volumes.",
        )
    if not pod.get("shareProcessNamespace"):
        raise BackupError(
            f"{name} cannot be made to stand still: its pods do not share their process namespace.",
            "Apply the component deploy/k8s/components/backup to its overlay.",
        )
    for template in spec.get("volumeClaimTemplates", []):
        claim = template["metadata"]["name"]
        places = [
            (container["name"], mount["mountPath"])
            for container in pod["containers"]
            for mount in container.get("volumeMounts", [])
            if mount["name"] == claim and "subPath" not in mount
        ]
        if len(places) != 1 or len(pod["containers"]) != 1:
            raise BackupError(f"{name}: a photograph takes one container with one volume.", "Change it back.")
        for number in range(spec["replicas"]):
            yield Volume(f"{name}-{number}", places[0][0], f"{claim}-{name}-{number}", places[0][1])
