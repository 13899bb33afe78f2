"""docs/alerts.md from the rules: every alert, how urgent it is, after how long it fires, and its runbook."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PAGE = Path("docs/alerts.md")
_DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_HEAD = """# Alerts

Made from `deploy/prometheus/rules` (of Kubernetes, from the component `monitoring`) by `make observe-docs`; a
test fails when it is not up to date. Each has a runbook that was followed (`make drills`), and a test of when
it fires. What is promised to users: [objectives](slo.md). How to add one:
[contributing](../CONTRIBUTING.md#what-is-new-brings-its-metrics-panel-alert-and-runbook-with-it).

"""
_WHAT = {"page": "Page: somebody gets up", "ticket": "Ticket: somebody looks during the day"}


@dataclass(frozen=True)
class Alert:
    """`after` is how long it has to be so; empty: at once. `says` is its summary, labels in italics."""

    name: str
    severity: str
    after: str
    says: str


def alerts() -> list[Alert]:
    """All alerts in the order of the rules; of one that has two severities both."""
    found: list[Alert] = []
    on_kubernetes = _DEPLOY / "k8s" / "components" / "monitoring" / "backup-rules.yaml"
    for file in (*sorted((_DEPLOY / "prometheus" / "rules").glob("*.yml")), on_kubernetes):
        rules = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in rules.get("spec", rules)["groups"]:
            found += [_alert(rule) for rule in group["rules"] if "alert" in rule]
    return found


def page() -> str:
    """The text of docs/alerts.md."""
    there = alerts()
    parts = [_HEAD.rstrip()]
    for severity, title in _WHAT.items():
        rows = ["| alert | after | says |", "|---|---|---|"]
        rows += [
            f"| [{one.name}](runbooks/{one.name}.md) | {one.after or 'at once'} | {one.says} |"
            for one in there
            if one.severity == severity
        ]
        parts.append(f"## {title}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _alert(rule: dict[str, Any]) -> Alert:
    says = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", rule["annotations"]["summary"])
    says = re.sub(r"\{\{.*?\}\}", "*n*", says).replace("|", "\\|")
    return Alert(rule["alert"], rule["labels"]["severity"], rule.get("for", ""), says)
