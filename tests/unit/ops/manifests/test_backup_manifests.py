"""Backups on Kubernetes: the rights that they need and no others, and nothing that is left out."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.backup.kubernetes import stateful, take
from ops.devnet.layout import ROOT, tool
from tests.unit.ops.manifests.manifests import all_workloads, container, of_kind, pod

BACKED_UP = [("laptop", "mercy"), ("laptop", "lakeside"), ("production", "mercy")]


def of(overlay: str, namespace: str, kind: str, name: str) -> dict[str, Any]:
    [found] = [
        document
        for document in of_kind(overlay, kind)
        if (document["metadata"]["namespace"], document["metadata"]["name"]) == (namespace, name)
    ]
    return found


def rights(overlay: str, namespace: str, name: str) -> set[tuple[str, str, str]]:
    """Each verb on each resource, with the name that it is for; * when it is for all."""
    return {
        (verb, resource, of_name)
        for rule in of(overlay, namespace, "Role", name)["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for of_name in rule.get("resourceNames", ["*"])
    }


def stateful_sets(overlay: str, namespace: str) -> list[dict[str, Any]]:
    return [
        document
        for document in all_workloads(overlay)
        if document["kind"] == "StatefulSet" and document["metadata"]["namespace"] == namespace
    ]


@pytest.mark.parametrize(("overlay", "namespace"), BACKED_UP)
def test_a_backup_may_read_what_a_member_keeps_and_nothing_else(overlay: str, namespace: str) -> None:
    workloads = [doc for doc in all_workloads(overlay) if doc["metadata"]["namespace"] == namespace]
    kept = [volume.pod for volume in stateful.volumes(stateful_sets(overlay, namespace))]
    secrets = take.mounted(workloads)
    assert len(kept) == 7
    assert "storage-keys" in secrets
    assert rights(overlay, namespace, "backup") == {
        *(("list", kind, "*") for kind in take.WORKLOADS),
        *((verb, "pods/exec", name) for verb in ("get", "create") for name in kept),
        *(("get", "secrets", name) for name in secrets),
        *(("get", "configmaps", name) for name in take.CONFIG_MAPS),
    }


@pytest.mark.parametrize(("overlay", "namespace"), BACKED_UP)
def test_a_restore_may_neither_read_nor_change_a_secret_and_runs_nothing_in_pods(
    overlay: str, namespace: str
) -> None:
    assert rights(overlay, namespace, "restore") == {
        ("list", "pods", "*"),
        ("create", "secrets", "*"),
        ("create", "configmaps", "*"),
        ("get", "configmaps", take.RELEASE),
    }


@pytest.mark.parametrize(("overlay", "namespace"), BACKED_UP)
@pytest.mark.parametrize("name", ["backup", "restore"])
def test_rights_are_those_of_one_service_account(overlay: str, namespace: str, name: str) -> None:
    binding = of(overlay, namespace, "RoleBinding", name)
    assert binding["roleRef"]["name"] == name
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    assert pod(of(overlay, namespace, "CronJob", name))["serviceAccountName"] == name
    # Who gets it for the asking has no token in every pod.
    assert of(overlay, namespace, "ServiceAccount", name)["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("overlay", "namespace"), BACKED_UP)
def test_whatever_is_photographed_is_mounted_to_be_given_back(overlay: str, namespace: str) -> None:
    claims = {volume.claim for volume in stateful.volumes(stateful_sets(overlay, namespace))}
    description = of(overlay, namespace, "CronJob", "restore")
    named = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod(description)["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container(description)["volumeMounts"]}
    at = {claim: mounts[name] for name, claim in named.items() if claim != "backups"}
    assert at == {claim: f"/claims/{claim}" for claim in claims}


@pytest.mark.parametrize(("overlay", "namespace"), BACKED_UP)
def test_backups_do_not_overlap_or_last_for_ever_and_a_restore_begins_by_hand(
    overlay: str, namespace: str
) -> None:
    backup, restore = (of(overlay, namespace, "CronJob", name)["spec"] for name in ("backup", "restore"))
    assert backup["concurrencyPolicy"] == "Forbid"
    assert not backup.get("suspend")
    assert restore["suspend"] is True
    # A second try could begin on volumes that are half put in place.
    assert restore["jobTemplate"]["spec"]["backoffLimit"] == 0
    for described in (backup, restore):
        assert described["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 6 * 3600


@pytest.mark.parametrize(("overlay", "namespace"), BACKED_UP)
def test_the_recovery_key_and_secrets_out_of_a_backup_lie_in_memory(overlay: str, namespace: str) -> None:
    volumes = {
        volume["name"]: volume for volume in pod(of(overlay, namespace, "CronJob", "restore"))["volumes"]
    }
    assert volumes["scratch"]["emptyDir"]["medium"] == "Memory"
    assert volumes["restore"]["secret"]["defaultMode"] == 0o440


def test_a_missing_backup_is_told_with_a_page_that_says_what_to_do() -> None:
    rules = {
        rule["alert"]: rule
        for document in of_kind("production", "PrometheusRule")
        for group in document["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    missing = rules["BackupMissing"]
    assert 'cronjob="backup"' in missing["expr"]
    assert (ROOT / missing["annotations"]["runbook"]).exists()


TRIED = """
rule_files: [rules.yml]
evaluation_interval: 1h
tests:
  - interval: 1h
    input_series:
      # Ends well each night, but for the last two.
      - series: kube_cronjob_status_last_successful_time{namespace="mercy", cronjob="backup"}
        values: 0x23 86400x60
      # Never ended well.
      - series: kube_cronjob_created{namespace="lakeside", cronjob="backup"}
        values: 0x80
    alert_rule_test:
      - {eval_time: 35h, alertname: BackupMissing}
      - eval_time: 37h
        alertname: BackupMissing
        exp_alerts:
          - exp_labels: {namespace: lakeside, severity: ticket}
            exp_annotations:
              summary: lakeside has had no backup for a day and a half
              runbook: docs/runbooks/BackupMissing.md
      - eval_time: 61h
        alertname: BackupMissing
        exp_alerts:
          - exp_labels: {namespace: lakeside, severity: ticket}
            exp_annotations:
              summary: lakeside has had no backup for a day and a half
              runbook: docs/runbooks/BackupMissing.md
          - exp_labels: {namespace: mercy, severity: ticket}
            exp_annotations:
              summary: mercy has had no backup for a day and a half
              runbook: docs/runbooks/BackupMissing.md
"""


def test_a_backup_is_missing_after_a_day_and_a_half_also_when_there_never_was_one(tmp_path: Path) -> None:
    [rules] = [
        document
        for document in of_kind("production", "PrometheusRule")
        if document["metadata"]["name"] == "cbmdhi-backup"
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules["spec"]))
    (tmp_path / "test.yml").write_text(TRIED)
    ended = subprocess.run(
        [tool("promtool"), "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
