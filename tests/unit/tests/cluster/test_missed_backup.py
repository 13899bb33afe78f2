"""The runbook of a missed backup is followed by its own commands, and by the rule of the manifests."""

import json
from pathlib import Path

import pytest
import yaml

from ops.observe import prometheus
from tests.cluster import missed_backup
from tests.cluster.operator_day import NotAsItMust
from tests.drills import runbook

RULES = yaml.safe_load(missed_backup.RULES.read_text())


def test_the_rule_is_that_of_the_manifests_but_for_the_time_and_prometheus_takes_it(tmp_path: Path) -> None:
    documents = missed_backup.configuration(RULES, "127.0.0.1:1")
    [rule] = documents["backup.yml"]["groups"][0]["rules"]
    [theirs] = RULES["spec"]["groups"][0]["rules"]

    assert rule["expr"] == theirs["expr"].replace("36 * 3600", "30") != theirs["expr"]
    assert {**rule, "expr": ""} == {**theirs, "expr": ""}
    for name, document in documents.items():
        (tmp_path / name).write_text(json.dumps(document))
    said = prometheus.check_rules("check", "config", tmp_path / "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_rule_that_asks_for_another_time_is_not_hastened_by_guess() -> None:
    other = json.loads(json.dumps(RULES).replace("36 * 3600", "40 * 3600"))
    with pytest.raises(NotAsItMust, match=r"36 \* 3600 0 times"):
        missed_backup.configuration(other, "127.0.0.1:1")


def test_what_mends_it_is_the_page_s_last_advice_and_undoes_what_broke_it() -> None:
    page = runbook.read(missed_backup.ALERT)
    made, *_ = (line for line in page.steps[runbook.MEND].splitlines() if "create configmap" in line)

    assert "kubectl create job now --from=cronjob/backup" in page.sections["What to do"]
    assert "kubectl delete configmap backup" in page.steps[runbook.BREAK]
    assert "--from-file=mercy.key.pub" in made
