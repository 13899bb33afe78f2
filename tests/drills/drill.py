"""One drill: break, wait for the alert, look, mend as the page says, wait until it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp

from cbmdhi.errors import MeshError
from ops.devnet import DevnetError
from ops.observe.prometheus import Prometheus, QueryFailed
from tests.drills.mesh import Mesh
from tests.drills.plan import Drill
from tests.drills.report import Account, Outcome
from tests.drills.runbook import BREAK, BREAK_ON, LOOK, MEND, SEND, Page
from tests.drills.shell import CommandsFailed, Running, Shell
from tests.drills.short_rules import Pace, slower

_EVERY_SECONDS = 0.3
_COMMAND_SECONDS = 150.0
_QUIET_SECONDS = 240.0
_WORKS_SECONDS = 90.0
# Histograms are three series, and what is sent for counters ends in `_total` already.
_ENDINGS = ("", "_bucket", "_sum", "_count")


class DrillFailed(Exception):
    """The alert, the page or the mesh did not do what it should."""


_FAILURES = (DrillFailed, CommandsFailed, MeshError, DevnetError, QueryFailed, aiohttp.ClientError)


class Drilling:
    """Follows pages, one after the other."""

    def __init__(
        self, mesh: Mesh, prometheus: Prometheus, shell: Shell, account: Account, pace: Pace
    ) -> None:
        self._mesh = mesh
        self._prometheus = prometheus
        self._shell = shell
        self._account = account
        self._pace = pace

    async def follow(self, drill: Drill, page: Page) -> Outcome:
        """Do it. Whatever goes wrong is in the outcome; the mesh is mended anyhow."""
        outcome = Outcome(drill.alert)
        self._account.begin(f"{drill.alert}: {', '.join(drill.labels.values()) or 'any member'}")
        try:
            await self._follow(drill, page, outcome)
        except _FAILURES as error:
            outcome.problem = str(error)
            self._account.tell("failed", str(error), "red")
            await self._bring_back(page)
        return outcome

    async def _follow(self, drill: Drill, page: Page, outcome: Outcome) -> None:
        seconds = drill.seconds * slower(self._pace, drill.rules)
        await self._until_quiet(drill)
        async with AsyncExitStack() as running:
            if SEND in page.steps:
                sending = await running.enter_async_context(self._shell.start(page.steps[SEND]))
                await self._said(sending, "sending")
                self._account.tell("sending", page.steps[SEND])
            commands = page.steps.get(BREAK) or page.steps[BREAK_ON]
            self._account.tell("break", commands)
            broken = time.monotonic()
            async with self._shell.start(commands) as breaking:
                alert = await self._fires(drill, seconds, breaking)
                outcome.fired = time.monotonic() - broken
                self._account.tell(
                    "fires", f"{alert['annotations']['summary']} {_plain(alert['labels'])}", "red"
                )
                await self._look(page)
                if BREAK in page.steps:
                    await breaking.ended(_COMMAND_SECONDS)
            mended = time.monotonic()
            if MEND in page.steps:
                self._account.tell("mend", page.steps[MEND])
                await self._shell.run(page.steps[MEND], _COMMAND_SECONDS)
            await self._ends(drill, seconds)
            outcome.gone = time.monotonic() - mended
            self._account.tell("ended", "the alert is gone", "green")
        self._account.tell("works", await self._mesh.works(_WORKS_SECONDS), "green")

    async def _until_quiet(self, drill: Drill) -> None:
        """An alert that an earlier fault left behind would be taken for this one's."""
        deadline = time.monotonic() + _QUIET_SECONDS * slower(self._pace, drill.rules)
        if not await self._alerts(drill):
            return
        self._account.tell("waiting", "until the alert that an earlier drill left behind is gone")
        while await self._alerts(drill):
            if time.monotonic() > deadline:
                raise DrillFailed("the alert is there before anything was broken")
            await asyncio.sleep(_EVERY_SECONDS)

    async def _said(self, running: Running, word: str) -> None:
        deadline = time.monotonic() + 30.0
        while word not in running.said():
            running.check()
            if time.monotonic() > deadline:
                raise DrillFailed(f"nothing is sent: {running.said()}")
            await asyncio.sleep(_EVERY_SECONDS)

    async def _fires(self, drill: Drill, seconds: float, breaking: Running) -> Mapping[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            breaking.check()
            alerts = await self._alerts(drill)
            for alert in alerts:
                if alert["state"] == "firing":
                    return alert
            if time.monotonic() > deadline:
                states = (
                    ", ".join(f"{one['state']} {_plain(one['labels'])}" for one in alerts) or "not pending"
                )
                raise DrillFailed(f"the alert did not fire within {seconds:.0f} s: {states}")
            await asyncio.sleep(_EVERY_SECONDS)

    async def _look(self, page: Page) -> None:
        """What the page sends its reader to has to be there to be seen."""
        missing = [name for name in page.metrics if not await self._is_there(name)]
        if missing:
            raise DrillFailed(f"the page names series that Prometheus does not have: {', '.join(missing)}")
        if page.metrics:
            self._account.tell("look", f"there is {', '.join(page.metrics)}")
        if LOOK in page.steps:
            said = await self._shell.run(page.steps[LOOK], _COMMAND_SECONDS)
            self._account.tell("look", f"{page.steps[LOOK]}\n{said}")

    async def _is_there(self, name: str) -> bool:
        """Now, or a moment ago: a program that is broken shows nothing."""
        names = "|".join(f"{name}{ending}" for ending in _ENDINGS)
        return bool(await self._prometheus.query(f'count(last_over_time({{__name__=~"{names}"}}[10m]))'))

    async def _ends(self, drill: Drill, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while alerts := [one for one in await self._alerts(drill) if one["state"] == "firing"]:
            if time.monotonic() > deadline:
                still = ", ".join(_plain(one["labels"]) for one in alerts)
                raise DrillFailed(f"mended, and the alert is not gone within {seconds:.0f} s: {still}")
            await asyncio.sleep(_EVERY_SECONDS)

    async def _alerts(self, drill: Drill) -> list[Mapping[str, Any]]:
        """Pending and firing ones that the drill is about."""
        wanted = {"alertname": drill.alert, **drill.labels}
        return [one for one in await self._prometheus.alerts() if wanted.items() <= one["labels"].items()]

    async def _bring_back(self, page: Page) -> None:
        """After a failure: undo what was done, so that the next drill begins with a mesh that works."""
        if MEND in page.steps:
            # What was not broken need not be mended.
            with suppress(CommandsFailed):
                await self._shell.run(page.steps[MEND], _COMMAND_SECONDS)
        try:
            await asyncio.to_thread(self._mesh.network.up)
            await self._mesh.works(_WORKS_SECONDS)
        except (MeshError, DevnetError) as error:
            problems = await self._mesh.problems()
            self._account.tell("failed", f"the mesh does not come back: {error} {problems}", "red")


def _plain(labels: Mapping[str, str]) -> str:
    """Labels as a person reads them."""
    left_out = ("alertname", "instance", "__name__")
    return "{" + ", ".join(f"{name}={value}" for name, value in labels.items() if name not in left_out) + "}"
