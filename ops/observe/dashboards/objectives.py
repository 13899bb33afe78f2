"""What is promised to users, and what is left of it."""

from __future__ import annotations

from ops.observe.dashboards import parts
from ops.observe.panels import Dashboard, Query, panel
from ops.observe.slo import OBJECTIVES

SLO = Dashboard(
    "slo",
    "Objectives and their budgets",
    (
        *(
            panel(
                f"{one.says[0].upper()}{one.says[1:]}: how fast the budget of {one.budget:.1%} goes",
                "short",
                *(
                    Query(f"{one.recorded(time)} / {one.budget:g}", parts.BY + time)
                    for time in ("5m", "1h", "6h")
                ),
            )
            for one in OBJECTIVES
        ),
        panel(
            "Alerts that fire",
            "short",
            'sum by (alertname, severity) (ALERTS{alertstate="firing"})',
            legend="{{alertname}} {{severity}}",
            rests="only when an alert fires",
        ),
    ),
)
