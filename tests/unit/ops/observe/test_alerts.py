"""Each alert has a rule that Prometheus takes, a test that passes, and a page that helps."""

import re
from pathlib import Path

import pytest

from cbmdhi.cli.main import OWN
from ops.cli import COMMANDS
from ops.observe import alerts, prometheus
from ops.observe.docs import ROOT

RULES = sorted((prometheus.CONFIGURATION / "rules").glob("*.yml"))
TESTS = sorted((prometheus.CONFIGURATION / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
HEADINGS = ["## What it means", "## What to look at", "## What to do"]
ALERTS = sorted({name for file in RULES for name in re.findall(r"- alert: (\w+)", file.read_text())})


def test_there_are_alerts() -> None:
    assert len(ALERTS) > 20


def test_prometheus_takes_configuration_and_rules() -> None:
    said = prometheus.check_rules("check", "config", "prometheus.yml")

    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_alerts_are_quiet_and_fire_as_their_tests_say(file: Path) -> None:
    said = prometheus.check_rules("test", "rules", file)

    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_both_quiet_and_firing(alert: str) -> None:
    tested = "\n".join(file.read_text() for file in TESTS)

    assert re.search(rf"alertname: {alert}\b(?:.|\n)*?exp_labels", tested), "write a test of it"
    assert f"runbook: docs/runbooks/{alert}.md" in tested


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_names_its_page_and_the_page_says_what_to_do(alert: str) -> None:
    rules = "\n".join(file.read_text() for file in RULES)
    page = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")

    assert f"runbook: docs/runbooks/{alert}.md" in rules
    assert page.startswith(f"# {alert}\n")
    assert [heading for heading in HEADINGS if heading in page] == HEADINGS


def test_no_page_is_left_of_an_alert_that_is_gone() -> None:
    of_kubernetes = (ROOT / "deploy/k8s/components/monitoring/backup-rules.yaml").read_text()
    there = {*ALERTS, *re.findall(r"- alert: (\w+)", of_kubernetes)}
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == there


def test_what_the_pages_name_is_there() -> None:
    """Commands of ours, and alerts that pages send to."""
    commands = {declared.name for declared in (*OWN, *COMMANDS)}
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"`cbmdhi ([a-z-]+)", text)) <= commands, page
        named = set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", text)) & {f"{name}" for name in ALERTS}
        assert all((RUNBOOKS / f"{name}.md").exists() for name in named), page


def test_every_metric_that_a_page_names_is_in_the_catalogue() -> None:
    catalogue = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for page in RUNBOOKS.glob("*.md"):
        for name in re.findall(r"`(cbmdhi_[a-z_]+)", page.read_text(encoding="utf-8")):
            assert f"`{name}`" in catalogue, f"{page.name} names {name}"


def test_the_page_of_alerts_has_each_with_how_urgent_it_is() -> None:
    there = alerts.alerts()
    assert {one.name for one in there} == {file.stem for file in RUNBOOKS.glob("*.md")}
    assert {one.severity for one in there} == {"page", "ticket"}
    gets_up = alerts.page().split("## Ticket")[0]
    for one in there:
        row = f"| [{one.name}](runbooks/{one.name}.md) | {one.after or 'at once'} |"
        assert (row in gets_up) if one.severity == "page" else (row in alerts.page())
    assert "{{" not in alerts.page()
