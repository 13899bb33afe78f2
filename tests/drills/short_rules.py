"""Rules with shorter times, so that a drill takes seconds where an alert waits for minutes or days.

What is shortened are `for:` and the ranges of series. Thresholds stay: the same fault has to be there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\bfor: |\[)(\d+)(ms|s|m|h|d)\b")
_EVERY = re.compile(r"^(  (?:scrape_interval|scrape_timeout|evaluation_interval): )\S+$", re.MULTILINE)


@dataclass(frozen=True)
class Pace:
    """By what the times of the rules are divided.

    alerts         of deploy/prometheus/rules/alerts.yml
    objectives     of slo.yml, whose ranges are hours and days
    least_seconds  what no time falls below, unless it is shorter as it stands
    every_seconds  between two scrapes, and two evaluations; None: as it stands
    """

    alerts: float
    objectives: float
    least_seconds: float = 0.0
    every_seconds: float | None = None

    def of(self, file: str) -> float:
        """The divisor of a rule file, by its name."""
        return self.objectives if file == "slo.yml" else self.alerts


# A minute is 4 s, five are 20 s; a day is 4 minutes.
FAST = Pace(15.0, 360.0, least_seconds=4.0, every_seconds=1.0)
REAL = Pace(1.0, 1.0)


def slower(pace: Pace, file: str) -> float:
    """How many times longer than at the fast pace an alert of that rule file takes."""
    return FAST.of(file) / pace.of(file)


def seconds(text: str) -> float:
    """`5m` → 300.0. Raises ValueError for anything else than a whole number and a unit."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if found is None:
        raise ValueError(f"{text!r} is not a time such as 5m")
    return int(found[1]) * _UNITS[found[2]]


def shorter(rules: str, divisor: float, least_seconds: float) -> str:
    """The text of a rule file with every `for:` and every range divided."""

    def one(found: re.Match[str]) -> str:
        before, was = found[1], seconds(found[2] + found[3])
        now = min(was, max(was / divisor, least_seconds))
        return f"{before}{round(now * 1000)}ms"

    return rules if divisor == 1 else _TIME.sub(one, rules)


def oftener(configuration: str, every_seconds: float | None) -> str:
    """The text of prometheus.yml with other intervals of scraping and evaluation."""
    if every_seconds is None:
        return configuration
    return _EVERY.sub(rf"\g<1>{round(every_seconds * 1000)}ms", configuration)


def hasten(folder: Path, pace: Pace) -> None:
    """Rewrite a copy of deploy/prometheus."""
    main = folder / "prometheus.yml"
    main.write_text(oftener(main.read_text(encoding="utf-8"), pace.every_seconds), encoding="utf-8")
    for file in (folder / "rules").glob("*.yml"):
        text = shorter(file.read_text(encoding="utf-8"), pace.of(file.name), pace.least_seconds)
        file.write_text(text, encoding="utf-8")
