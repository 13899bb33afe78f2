"""The load tool on the real network: what it reports stands, and it notices what does not."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from cbmdhi.hammer import cast, check, plan, report, run
from cbmdhi.hammer.plan import Load
from tests.e2e.conftest import People

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOAD = Load(rate=40.0, seconds=1.0, users=2, size=1000)


async def test_every_receipt_of_a_run_stands_and_a_forged_one_is_noticed(people: People) -> None:
    async with AsyncExitStack() as clients:
        there = await cast.gather(people.stage, LOAD.users, 2, clients, lambda: None)
        prepared = plan.prepare(LOAD, there.authors, list(there.patients))
        outcome = await run.run(LOAD, there.authors, prepared, lambda _: None)
        checked = await check.check(there.members, there.patients, prepared, outcome.receipts, sample=5)
        result = report.report(LOAD, outcome, checked)
        assert result["stands"], result
        assert result["committed"] == 40
        assert (checked.decrypted, checked.blobs) == (5, 10)

        first, second = list(outcome.receipts.values())[:2]
        first.receipt.command_id = second.receipt.command_id[:-1] + "0"
        forged = await check.check(there.members, there.patients, prepared, outcome.receipts, sample=0)
        assert forged.failures
