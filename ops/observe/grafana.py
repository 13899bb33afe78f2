"""Dashboards as Grafana's JSON, and where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ops.observe.dashboards import ALL
from ops.observe.panels import Dashboard, Panel

FOLDER = Path("deploy/grafana/dashboards")

_SOURCE = {"type": "prometheus", "uid": "cbmdhi-prometheus"}
_ACROSS, _HIGH = 12, 8


def files() -> dict[Path, str]:
    """The text of each dashboard's file."""
    return {FOLDER / f"{one.name}.json": json.dumps(_dashboard(one), indent=1) + "\n" for one in ALL}


def _dashboard(one: Dashboard) -> dict[str, Any]:
    return {
        "uid": f"cbmdhi-{one.name}",
        "title": one.title,
        "tags": ["cbmdhi"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": [_panel(number, panel) for number, panel in enumerate(one.panels)],
    }


def _panel(number: int, one: Panel) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": one.title,
        "description": f"No series: {one.rests}." if one.rests else "",
        "datasource": _SOURCE,
        "gridPos": {"x": number % 2 * _ACROSS, "y": number // 2 * _HIGH, "w": _ACROSS, "h": _HIGH},
        "fieldConfig": {"defaults": {"unit": one.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "exemplar": "_duration_seconds" in query.expr,
            }
            for place, query in enumerate(one.queries)
        ],
    }
