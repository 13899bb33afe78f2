"""The proof on an API server: what can be seen of it without one."""

import copy
import json
from typing import Any

import pytest

from ops.manifests import rendering
from tests.cluster import overlays
from tests.cluster.control_plane import ControlPlane
from tests.unit.ops.manifests.manifests import OVERLAYS, of_kind, rendered, workload


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_is_as_its_schema_says(overlay: str) -> None:
    assert overlays.check_schemas(list(rendered(overlay))) > 50


def test_a_key_that_no_schema_knows_is_told() -> None:
    bad = copy.deepcopy(workload("laptop", "mercy", "gateway"))
    bad["spec"]["template"]["spec"]["terminationGraceSeconds"] = 10
    with pytest.raises(overlays.TrialFailed, match="Deployment mercy/gateway is not as the schema says"):
        overlays.check_schemas([bad])


def test_a_folder_that_is_no_kustomization_fails_the_trial(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert overlays.main([str(tmp_path)]) == 1
    assert "kustomization" in capsys.readouterr().out


class Recording(ControlPlane):
    """No cluster: remembers what was applied, and has an answer for each kind that is asked for."""

    def __init__(self, answers: dict[str, list[dict[str, Any]]]) -> None:
        self.applied: list[str] = []
        self.deleted: list[str] = []
        self._answers = answers

    def kubectl(
        self, *arguments: str, given: str | None = None, seconds: float = 120.0, may_warn: bool = False
    ) -> str:
        if arguments[0] == "delete":
            self.deleted += [name for name in arguments[2:] if not name.startswith("--")]
        elif given:
            self.applied += [item["kind"] for item in json.loads(given)["items"]]
        return ""

    def get(self, kinds: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return [
            found for found in self._answers.get(kinds, []) if found["metadata"]["namespace"] == namespace
        ]


def test_a_namespace_that_enforces_nothing_fails_before_anything_is_applied() -> None:
    documents = copy.deepcopy(list(rendered("laptop")))
    for document in documents:
        if document["metadata"]["name"] == "lakeside" and document["kind"] == "Namespace":
            document["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"
    cluster = Recording({})
    with pytest.raises(overlays.TrialFailed, match="lakeside: Pod Security"):
        overlays.try_overlay(cluster, documents)
    assert not cluster.applied


def test_a_pod_that_was_refused_fails_the_trial_and_what_was_applied_goes_again() -> None:
    names = [document["metadata"]["name"] for document in of_kind("laptop", "Namespace")]
    refusal = {
        "metadata": {"namespace": "mercy"},
        "reason": "FailedCreate",
        "message": 'pods "peer-0" is forbidden: violates PodSecurity "restricted:v1.36"',
    }
    cluster = Recording(
        {
            "serviceaccounts": [{"metadata": {"namespace": name, "name": "default"}} for name in names],
            "events": [refusal],
        }
    )
    with pytest.raises(overlays.TrialFailed, match=r"mercy: pods .peer-0. is forbidden"):
        overlays.try_overlay(cluster, rendering.render("laptop"))
    assert sorted(cluster.deleted) == sorted(names)
