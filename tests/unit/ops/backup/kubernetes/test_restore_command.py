"""What an operator's restore does to the workloads, in which order, and what it leaves when it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops.backup import recovery_key
from ops.backup.errors import BackupError
from ops.backup.kubernetes import restore as module

GOOD = {
    "about": {"taken": "2026-11-23T02:17:00+00:00"},
    "holds": {"files": 4, "size": 40},
    "replaced": ".cbmdhi-replaced-20261123T030000Z",
    "made": ["Secret/storage-keys"],
}


class Cluster:
    """`kubectl` of a namespace with three workloads, in which the Job prints `said`."""

    def __init__(self, said: str, *, keda: bool = False) -> None:
        self.said = said
        self.keda = keda
        self.replicas = {"Deployment/gateway": 2, "StatefulSet/peer": 1, "StatefulSet/storage": 0}
        self.ending = 2
        self.done: list[str] = []
        self.secret: dict[str, Any] | None = None

    def __call__(
        self, *arguments: str, given: str | None = None, seconds: float = 120.0, may_warn: bool = False
    ) -> str:
        assert "--namespace=mercy" in arguments
        plain = [part for part in arguments if not part.startswith("--")]
        match plain:
            case ["get", "deployments,statefulsets"]:
                return json.dumps({"items": [_workload(name, n) for name, n in self.replicas.items()]})
            case ["get", "pods"]:
                self.ending = max(0, self.ending - 1)
                return json.dumps(
                    {"items": [_pod("peer-0", "StatefulSet")] * self.ending + [_pod("j", "Job")]}
                )
            case ["api-resources"]:
                return "scaledjobs.keda.sh\nscaledobjects.keda.sh\n" if self.keda else ""
            case ["get", "scaledobjects.keda.sh"]:
                return "scaledobject.keda.sh/notify\n"
            case ["get", job]:
                assert job.startswith("job/restore-")
                failed = {"type": "Failed" if "error" in self.said else "Complete", "status": "True"}
                return json.dumps({"status": {"conditions": [failed]}})
            case ["create"]:
                self.secret = json.loads(given or "")
            case ["create", "job", _]:
                assert self.secret is not None, "the Job finds its key"
                self.done.append("job")
            case ["delete", "secret", "restore"]:
                self.secret = None
            case ["logs", _]:
                return f"something\n{self.said}\n"
            case ["scale", *names]:
                [count] = [part.removeprefix("--replicas=") for part in arguments if "replicas" in part]
                self.done.append(f"{' '.join(sorted(names))} to {count}")
            case ["annotate", "scaledobject.keda.sh/notify", annotation]:
                self.done.append(annotation.removeprefix("autoscaling.keda.sh/"))
            case ["rollout", "status", name]:
                self.done.append(f"waited for {name}")
            case _:
                raise AssertionError(arguments)
        return ""


def _workload(name: str, replicas: int) -> dict[str, Any]:
    kind, _, name = name.partition("/")
    return {"kind": kind, "metadata": {"name": name}, "spec": {"replicas": replicas}}


def _pod(name: str, owner: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "ownerReferences": [{"kind": owner}]}}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private = tmp_path / "mercy.key"
    recovery_key.make(private)
    return private


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY_SECONDS", 0.0)


def restored(cluster: Cluster, key: Path) -> list[str]:
    told: list[str] = []
    module.restore(cluster, "mercy", "/backups/one", key, told.append)
    return told


ALL = "deployment/gateway statefulset/peer statefulset/storage"
UP = ["statefulset/peer statefulset/storage to 1", "deployment/gateway to 2"]


def test_workloads_stand_at_0_while_the_job_works_and_then_are_as_many_as_before(key: Path) -> None:
    cluster = Cluster(json.dumps(GOOD))
    told = restored(cluster, key)
    waited = [f"waited for {name}" for name in ALL.split()]
    assert cluster.done == [f"{ALL} to 0", "job", *UP, *waited]
    assert cluster.secret is None, "the private key does not stay in the cluster"
    assert "Secret/storage-keys was made again" in told


def test_keda_does_not_scale_up_meanwhile_what_it_has_a_minimum_for(key: Path) -> None:
    cluster = Cluster(json.dumps(GOOD), keda=True)
    restored(cluster, key)
    assert cluster.done[:2] == ["paused-replicas=0", f"{ALL} to 0"]
    assert cluster.done[2:6] == ["job", *UP, "paused-replicas-"]


def test_a_backup_that_is_refused_lets_the_member_run_as_it_was(key: Path) -> None:
    cluster = Cluster(json.dumps({"error": {"problem": "The backup is cut off.", "remedy": "Take another."}}))
    with pytest.raises(BackupError, match="cut off") as refused:
        restored(cluster, key)
    assert refused.value.remedy == "Take another."
    assert cluster.done == [f"{ALL} to 0", "job", *UP]
    assert cluster.secret is None


def test_a_job_that_ended_in_the_middle_leaves_the_member_down(key: Path) -> None:
    cluster = Cluster("Traceback: error")
    with pytest.raises(BackupError, match="It is not known how the Job") as unknown:
        restored(cluster, key)
    assert "stay at 0" in unknown.value.remedy
    assert cluster.done == [f"{ALL} to 0", "job"]
    assert cluster.secret is None


def test_pods_that_do_not_end_are_waited_for_and_then_told(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GONE_SECONDS", 0.0)
    cluster = Cluster(json.dumps(GOOD))
    cluster.ending = 1000
    with pytest.raises(BackupError, match="peer-0"):
        restored(cluster, key)
    assert cluster.done == [f"{ALL} to 0", *UP]


def test_another_file_than_the_private_key_changes_nothing(key: Path) -> None:
    cluster = Cluster(json.dumps(GOOD))
    with pytest.raises(BackupError, match="no private recovery key"):
        restored(cluster, key.with_name("mercy.key.pub"))
    assert not cluster.done
