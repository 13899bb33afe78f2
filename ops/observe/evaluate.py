"""Every panel's query and every rule, evaluated in a running Prometheus."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ops.observe.dashboards import ALL
from ops.observe.panels import Panel, Query
from ops.observe.prometheus import Prometheus, QueryFailed, Sample, windowed

WINDOW = "30s"
_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Evaluated:
    """A query of a panel, its series now, and what is wrong with it (empty: nothing)."""

    dashboard: str
    panel: Panel
    query: Query
    series: Sequence[Sample]
    problem: str = ""


async def panels(prometheus: Prometheus) -> list[Evaluated]:
    """All queries of all panels, once."""
    return [
        await _query(prometheus, one.name, panel, query)
        for one in ALL
        for panel in one.panels
        for query in panel.queries
    ]


async def panels_settled(prometheus: Prometheus, deadline_seconds: float) -> list[Evaluated]:
    """The same, asked again until none has a problem or the time is over."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline_seconds
    while True:
        found = await panels(prometheus)
        if not any(one.problem for one in found) or loop.time() > ends:
            return found
        await asyncio.sleep(_EVERY_SECONDS)


async def _query(prometheus: Prometheus, dashboard: str, panel: Panel, query: Query) -> Evaluated:
    try:
        series = await prometheus.query(windowed(query.expr, WINDOW))
    except QueryFailed as why:
        return Evaluated(dashboard, panel, query, (), str(why))
    problem = "no series" if not series and not panel.rests else ""
    return Evaluated(dashboard, panel, query, series, problem)


async def rules(prometheus: Prometheus) -> list[str]:
    """What is wrong with the loaded rules: each is evaluated by Prometheus itself, and asked here again.

    An alert that is empty says that all is well; `missing_inputs` says whether it could say anything else.
    """
    problems: list[str] = []
    for rule in await prometheus.rules():
        name = rule["name"]
        if rule["health"] != "ok":
            problems.append(f"{name}: {rule['health']} {rule.get('lastError', '')}".strip())
        try:
            await prometheus.query(rule["query"])
        except QueryFailed as why:
            problems.append(f"{name}: {why}")
    return problems


def shown(series: Sequence[Sample], most: int = 3) -> str:
    """The largest values, with what tells their series apart; what is no number is left out."""
    values = [(one.values[-1][1], one) for one in series if not math.isnan(one.values[-1][1])]
    values.sort(key=lambda found: -found[0])
    listed = ", ".join(f"{_labels(one)} {value:.4g}".strip() for value, one in values[:most])
    return f"{listed}{', …' if len(values) > most else ''}" if values else "nothing happened"


def _labels(one: Sample) -> str:
    told = [value for name, value in one.labels.items() if name not in ("__name__", "instance", "channel")]
    return " ".join(value.rpartition("/")[2] for value in told)


async def missing_inputs(prometheus: Prometheus) -> list[str]:
    """Series that an alert is about and that are not there: it could never fire."""
    problems: list[str] = []
    for rule in await prometheus.rules():
        if rule["type"] != "alerting":
            continue
        for selector in await prometheus.selectors(rule["query"]):
            if not await prometheus.query(selector):
                problems.append(f"{rule['name']}: nothing is called {selector}")
    return sorted(set(problems))
