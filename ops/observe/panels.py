"""What a dashboard is made of."""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"
"""Stands for a window that fits the zoom; Grafana fills it in, as does whoever else evaluates a query."""


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are named: `{{label}}`."""

    expr: str
    legend: str = "{{organisation}}"


@dataclass(frozen=True)
class Panel:
    """One picture. `unit` is Grafana's name of it (s, bytes, reqps, short, percentunit, bool).

    rests  why it has no series in a healthy mesh that is used; empty: it must have some
    """

    title: str
    unit: str
    queries: tuple[Query, ...]
    rests: str = ""


@dataclass(frozen=True)
class Dashboard:
    """A page of panels. `name` is that of its file."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def panel(
    title: str, unit: str, *exprs: str | Query, legend: str = "{{organisation}}", rests: str = ""
) -> Panel:
    """A panel; plain expressions share the legend."""
    queries = tuple(one if isinstance(one, Query) else Query(one, legend) for one in exprs)
    return Panel(title, unit, queries, rests)


def rate(metric: str, *by: str) -> str:
    """Events a second, summed by organisation and these labels."""
    return f"sum by ({', '.join(('organisation', *by))}) (rate({metric}[{RATE}]))"


def quantile(share: float, metric: str, *by: str, match: str = "") -> str:
    """A quantile of a histogram, by organisation and these labels."""
    chosen = f"{metric}_bucket{{{match}}}" if match else f"{metric}_bucket"
    labels = ", ".join(("organisation", *by, "le"))
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({chosen}[{RATE}])))"


def mean(metric: str, *by: str) -> str:
    """Mean of a histogram's observations, by organisation and these labels."""
    return f"{rate(metric + '_sum', *by)} / {rate(metric + '_count', *by)}"
