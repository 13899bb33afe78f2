"""A drill from end to end: the fault, the real alert, the page's own commands, a mesh that works again."""

from __future__ import annotations

import io
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from rich.console import Console

from ops.devnet import Network
from ops.observe.prometheus import Prometheus
from tests.drills import plan, runbook
from tests.drills import users as people
from tests.drills.drill import Drilling
from tests.drills.mesh import Mesh
from tests.drills.report import Account
from tests.drills.runbook import Page
from tests.drills.shell import Shell
from tests.drills.short_rules import FAST, hasten
from tests.support.waiting import free_port

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

# `for: 2m`, divided by 15.
LEAST_SECONDS = 8.0
THAT_ENDS = Page("ServiceNotReady", {"Try it": "Break it:\n\n    exit 3\n"})


async def test_a_page_is_followed_to_its_end_and_commands_that_fail_are_told(
    network: Network, tmp_path: Path
) -> None:
    told = io.StringIO()
    [drill] = plan.named(["ServiceNotReady"])
    async with AsyncExitStack() as running:
        users = await people.gather(network.home, running)
        prometheus = await running.enter_async_context(
            Prometheus(tmp_path, free_port(), network.endpoints(), lambda copy: hasten(copy, FAST))
        )
        shell = Shell(network.home, tmp_path / "drills.log")
        account = Account(Console(file=told, width=200))
        drilling = Drilling(Mesh(network, users), prometheus, shell, account, FAST)

        followed = await drilling.follow(drill, runbook.read(drill.alert))
        failed = await drilling.follow(drill, THAT_ENDS)

    assert followed.problem == "", told.getvalue()
    assert followed.fired is not None
    assert followed.fired > LEAST_SECONDS
    assert "ended with 3" in failed.problem
    assert failed.fired is None
