"""Gives a member on Kubernetes back: `python -m ops.backup.kubernetes.restore mercy PLACE --key mercy.key`.

What an operator runs, with a `kubectl` that may do all this in the namespace: its workloads are scaled to 0,
the Job that the component `backup` describes checks the backup and puts it in place, workloads are scaled up.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ops.backup import recovery_key
from ops.backup.errors import BackupError

_SECRET = "restore"  # noqa: S105 - its name
_WORKLOADS = "deployments,statefulsets"
# Of KEDA, where a cluster has it.
_SCALED_OBJECTS = "scaledobjects.keda.sh"
_PAUSED = "autoscaling.keda.sh/paused-replicas"
_PART = "app.kubernetes.io/part-of=cbmdhi"
_GONE_SECONDS = 180.0
# Longer than the Job may take (components/backup/restore.yaml): it fails by itself before.
_JOB_SECONDS = 6 * 3600.0
_READY_SECONDS = 600.0
_EVERY_SECONDS = 1.0

Say = Callable[[str], None]


class Kubectl(Protocol):
    """Runs `kubectl` with arguments, and `given` as its stdin; what it printed. Raises when it fails."""

    def __call__(
        self, *arguments: str, given: str | None = None, seconds: float = 120.0, may_warn: bool = False
    ) -> str: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ops.backup.kubernetes.restore", description=__doc__)
    parser.add_argument("namespace", help="of the member, such as mercy")
    parser.add_argument("place", help="the backup as pods see it: /backups/NAME, or s3://BUCKET/NAME")
    parser.add_argument("--key", type=Path, required=True, help="the private recovery key")
    options = parser.parse_args(argv)
    try:
        restore(_kubectl, options.namespace, options.place, options.key, lambda text: print(text, flush=True))
    except BackupError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def restore(kubectl: Kubectl, namespace: str, place: str, key: Path, say: Say) -> dict[str, Any]:
    """Give a member back, and wait until its workloads are ready; what the Job said.

    Raises:
        BackupError: the backup was refused, and the workloads run again as they were; or it is not known how
            the Job ended, and they stay at 0.
    """
    recovery_key.recovery(key)
    member = _Member(kubectl, namespace)
    # One that is at 0 is what a try that was broken off has left.
    replicas = {name: count or 1 for name, count in member.replicas().items()}
    say(f"{len(replicas)} workloads of {namespace} are scaled to 0")
    member.pause_autoscalers()
    member.scale(dict.fromkeys(replicas, 0))
    try:
        member.wait_gone()
    except BackupError:
        member.run_again(replicas)
        raise
    say(f"{place} is checked, then put in place")
    told = member.put(place, key)
    member.run_again(replicas)
    if "error" in told:
        raise BackupError(told["error"]["problem"], told["error"]["remedy"])
    holds = told["holds"]
    say(
        f"{holds['files']:,} files of {told['about']['taken'][:19]} UTC are in place, {holds['size']:,} bytes"
    )
    for name in told["made"]:
        say(f"{name} was made again")
    say(f"what was there lies in {told['replaced']} of each volume; remove it when all is well")
    member.wait_ready(replicas)
    say("all workloads are ready")
    return told


class _Member:
    """One namespace, by `kubectl`."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._run = kubectl
        self._where = f"--namespace={namespace}"

    def replicas(self) -> dict[str, int]:
        """How many of each workload are wanted, by names such as `deployment/gateway`."""
        found = self._get(_WORKLOADS, f"--selector={_PART}")["items"]
        if not found:
            raise BackupError("There are no workloads of a member.", "Apply its overlay first.")
        return {f"{doc['kind'].lower()}/{doc['metadata']['name']}": doc["spec"]["replicas"] for doc in found}

    def scale(self, wanted: dict[str, int]) -> None:
        """Want so many of each."""
        for count in sorted(set(wanted.values())):
            names = [name for name, number in wanted.items() if number == count]
            self._run("scale", f"--replicas={count}", *names, self._where)

    def pause_autoscalers(self) -> None:
        """KEDA lets nothing stay at 0 that it has a minimum for."""
        for name in self._autoscalers():
            self._run("annotate", name, f"{_PAUSED}=0", "--overwrite", self._where)

    def run_again(self, replicas: dict[str, int]) -> None:
        """Want as many as before, and let KEDA decide again."""
        self.scale(replicas)
        for name in self._autoscalers():
            self._run("annotate", name, f"{_PAUSED}-", self._where)

    def wait_gone(self) -> None:
        """Return once no pod of a workload is left. Raises BackupError."""
        ends_at = time.monotonic() + _GONE_SECONDS
        while left := self._pods_of_workloads():
            if time.monotonic() > ends_at:
                raise BackupError(f"{', '.join(left)} do not end.", "Look at them: kubectl describe pod.")
            time.sleep(_EVERY_SECONDS)

    def put(self, place: str, key: Path) -> dict[str, Any]:
        """Run the Job to its end; what it said. The recovery key is in the cluster for so long."""
        job = f"restore-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self._forget_key()
        try:
            self._run("create", "--filename=-", self._where, given=json.dumps(_secret(place, key)))
            self._run("create", "job", job, "--from=cronjob/restore", self._where)
            self._wait_ended(job)
            return self._said(job)
        finally:
            self._forget_key()

    def wait_ready(self, names: Iterable[str]) -> None:
        """Return once all workloads are ready. Raises as `kubectl` does."""
        for name in names:
            self._run(
                *("rollout", "status", name, f"--timeout={_READY_SECONDS:g}s", self._where),
                seconds=_READY_SECONDS + 10,
            )

    def _wait_ended(self, job: str) -> None:
        ends_at = time.monotonic() + _JOB_SECONDS
        while not any(
            condition["type"] in ("Complete", "Failed") and condition["status"] == "True"
            for condition in self._get(f"job/{job}").get("status", {}).get("conditions", [])
        ):
            if time.monotonic() > ends_at:
                raise BackupError(f"The Job {job} does not end.", f"kubectl describe job {job}")
            time.sleep(_EVERY_SECONDS)

    def _said(self, job: str) -> dict[str, Any]:
        """The last line of the Job's log, which is JSON."""
        lines = self._run("logs", f"job/{job}", "--tail=20", self._where, may_warn=True).splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, ValueError) as exc:
            told = "\n".join(lines) or "its log is empty"
            raise BackupError(
                f"It is not known how the Job {job} ended: {told}",
                "Workloads stay at 0, since volumes may be of different times: run this again.",
            ) from exc

    def _forget_key(self) -> None:
        self._run("delete", "secret", _SECRET, "--ignore-not-found", self._where)

    def _autoscalers(self) -> list[str]:
        known = self._run("api-resources", "--api-group=keda.sh", "--output=name", self._where).split()
        if _SCALED_OBJECTS not in known:
            return []
        return self._run("get", _SCALED_OBJECTS, "--output=name", self._where).split()

    def _pods_of_workloads(self) -> list[str]:
        kinds = ("ReplicaSet", "StatefulSet")
        return [
            pod["metadata"]["name"]
            for pod in self._get("pods", f"--selector={_PART}")["items"]
            if any(owner["kind"] in kinds for owner in pod["metadata"].get("ownerReferences", []))
        ]

    def _get(self, *what: str) -> dict[str, Any]:
        return json.loads(self._run("get", *what, "--output=json", self._where))


def _secret(place: str, key: Path) -> dict[str, Any]:
    content = {"place": place.encode(), "recovery.key": key.read_bytes()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _SECRET},
        "data": {name: base64.b64encode(value).decode() for name, value in content.items()},
    }


def _kubectl(
    *arguments: str, given: str | None = None, seconds: float = 120.0, may_warn: bool = False
) -> str:
    try:
        ended = subprocess.run(
            ["kubectl", *arguments],
            input=given,
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise BackupError(f"`kubectl {' '.join(arguments)}` failed: {exc}", "Its words are above.") from exc
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
