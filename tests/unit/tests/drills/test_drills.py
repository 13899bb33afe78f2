"""Runbooks and drills say the same, and rules are shortened without being changed otherwise."""

import re
import shutil
from pathlib import Path

import pytest

from ops.observe import prometheus
from ops.observe.docs import ROOT
from services.runtime.log_events import EVENTS
from tests.drills import plan, runbook, short_rules
from tests.drills.runbook import BREAK, BREAK_ON, FOLDER, LOOK, MEND, SEND, STEPS
from tests.drills.short_rules import FAST, REAL

RULES = {file.name: file.read_text() for file in (prometheus.CONFIGURATION / "rules").glob("*.yml")}
# Those of Kubernetes alone are with its manifests.
OF_KUBERNETES = (ROOT / "deploy/k8s/components/monitoring/backup-rules.yaml").read_text()
ALERTS = sorted(
    {name for text in (*RULES.values(), OF_KUBERNETES) for name in re.findall(r"- alert: (\w+)", text)}
)
DRILLED = {drill.alert: drill for drill in plan.DRILLS}


def test_every_alert_has_a_drill() -> None:
    assert sorted((*DRILLED, *plan.ON_KUBERNETES)) == ALERTS
    assert len(DRILLED) == len(plan.DRILLS)
    assert {page.stem for page in FOLDER.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_page_breaks_something_and_says_that_it_was_followed(alert: str) -> None:
    page = runbook.read(alert)

    assert (BREAK in page.steps) != (BREAK_ON in page.steps)
    where = runbook.FOLLOWED if alert in DRILLED else runbook.FOLLOWED_ON_KUBERNETES
    assert where in page.sections["Try it"], f"say `{where}` once you have seen it pass"
    assert page.followed


@pytest.mark.parametrize("alert", DRILLED)
def test_what_mends_it_is_what_the_page_says_is_to_be_done(alert: str) -> None:
    """By the commands that both name; letting go on what was stopped short is the trial's own."""
    page = runbook.read(alert)
    to_do = page.sections["What to do"]
    done = re.findall(
        r"^(cbmdhi \w+|fabric-ca-client \w+)|(ipfs repo verify)", page.steps.get(MEND, ""), re.MULTILINE
    )

    assert all((ours or theirs) in to_do for ours, theirs in done), done


@pytest.mark.parametrize("alert", ALERTS)
def test_log_events_that_a_page_names_are_written_by_services(alert: str) -> None:
    page = runbook.read(alert)
    text = "".join(page.sections.values())
    kinds = {event.partition(".")[0] for event in EVENTS}
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", text) if name.partition(".")[0] in kinds}
    searched = set(re.findall(r"\b([a-z_]+\.[a-z_]+)\b", page.steps.get(LOOK, "")))

    assert named <= EVENTS
    assert {name for name in searched if name.partition(".")[0] in kinds} <= EVENTS


def test_the_steps_of_a_page_are_its_commands_without_the_words_around() -> None:
    page = runbook.parse(
        "ServiceDown",
        "# ServiceDown\n\n## What it means\n\nIt is away.\n\n## Try it\n\nSend records: first.\n\n"
        "Send records:\n\n    send one\n\nBreak it:\n\n    break this\n    and that \\\n        too\n\n"
        f"Mend it:\n\n    mend\n\n{runbook.FOLLOWED}.\n",
    )

    assert page.steps == {SEND: "send one", BREAK: "break this\nand that \\\n    too", MEND: "mend"}
    assert list(page.steps) == [step for step in STEPS if step in page.steps]
    assert page.followed
    assert page.sections["What it means"].strip() == "It is away."


def test_series_are_told_from_settings_and_log_events() -> None:
    text = '# X\n\n## What to do\n\n- `cbmdhi_x_total`, `ledger_height{a="b"}`, `max_payload`, `x.lagging`\n'

    assert runbook.parse("X", text).metrics == ["cbmdhi_x_total", "ledger_height"]


def test_times_are_divided_and_nothing_else_is_changed() -> None:
    rule = '  expr: increase(x_total[10m]) > 0 and y{le="5m"} > 14 * 86400\n  for: 2m\n  record: r:rate5m\n'

    assert short_rules.shorter(rule, 15, 4.0) == rule.replace("[10m]", "[40000ms]").replace(
        "for: 2m", "for: 8000ms"
    )


def test_no_time_falls_below_the_least_nor_grows_to_it() -> None:
    assert short_rules.shorter("for: 1m", 360, 4.0) == "for: 4000ms"
    assert short_rules.shorter("for: 2s", 360, 4.0) == "for: 2000ms"


def test_at_the_real_pace_the_rules_stay_as_they_are() -> None:
    for name, text in RULES.items():
        assert short_rules.shorter(text, REAL.of(name), REAL.least_seconds) == text


@pytest.mark.parametrize("name", RULES)
def test_thresholds_labels_and_names_are_the_same_at_the_fast_pace(name: str) -> None:
    hastened = short_rules.shorter(RULES[name], FAST.of(name), FAST.least_seconds)
    without_times = r"(?<=for: )\w+|(?<=\[)\w+(?=\])"

    assert hastened != RULES[name]
    assert re.sub(without_times, "", hastened) == re.sub(without_times, "", RULES[name])


def test_a_copy_of_the_configuration_is_hastened_and_prometheus_takes_it(tmp_path: Path) -> None:
    folder = tmp_path / "configuration"
    shutil.copytree(prometheus.CONFIGURATION, folder)
    short_rules.hasten(folder, FAST)

    assert "scrape_interval: 1000ms" in (folder / "prometheus.yml").read_text()
    said = prometheus.check_rules("check", "config", folder / "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_rules_of_a_drill_are_in_the_file_that_it_names() -> None:
    for drill in plan.DRILLS:
        assert f"- alert: {drill.alert}\n" in RULES[drill.rules]
        assert short_rules.slower(FAST, drill.rules) == 1
        assert short_rules.slower(REAL, drill.rules) == FAST.of(drill.rules)


def test_drills_are_chosen_by_name_in_their_own_order() -> None:
    assert [drill.alert for drill in plan.named(["ServiceDown", "IpfsDown"])] == ["IpfsDown", "ServiceDown"]
    assert plan.named([]) == list(plan.DRILLS)
    with pytest.raises(KeyError, match="no drill 'Nothing'"):
        plan.named(["Nothing"])


def test_a_time_is_a_number_and_a_unit() -> None:
    assert [short_rules.seconds(text) for text in ("250ms", "5m", "3d")] == [0.25, 300.0, 259_200.0]
    with pytest.raises(ValueError, match="not a time"):
        short_rules.seconds("soon")
