"""The load tool on the real network: what it reports stands, and it notices what does not."""

from __future__ import annotations

import pytest

from bench.load import report
from bench.load.plan import Load
from bench.load.session import Session
from tests.e2e.conftest import People

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOAD = Load(rate=50.0, seconds=4.0, users=2, patients=3, reads=0.2, bad=0.05)


@pytest.mark.timeout(240)
async def test_every_receipt_of_a_mixed_run_stands_and_a_forged_one_is_noticed(people: People) -> None:
    async with Session(people.stage.home, LOAD) as session:
        ran = await session.run(LOAD, sample=5)
        result = report.report(ran)
        assert result["stands"], result
        assert (result["committed"], result["read"], result["bad"]) == (152, 40, 8)
        assert (ran.checked.decrypted, ran.checked.blobs) == (5, 2 * 152)

        number, receipt = next((key, entry) for key, entry in ran.tally.stands.items() if entry.cid)
        other = "e" if receipt.cid.endswith("a") else "a"
        ran.tally.stands[number] = receipt._replace(cid=receipt.cid[:-1] + other)
        forged = await session.check(ran.tally, sample=0)
        assert forged.failures
