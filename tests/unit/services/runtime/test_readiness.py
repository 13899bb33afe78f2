"""Whose trouble makes a service not ready, and whose does not."""

import pytest

from services.runtime import readiness
from services.runtime.readiness import Readiness


class Trouble:
    """A check that finds what a test says."""

    def __init__(self, says: str | None = None) -> None:
        self.says = says

    async def __call__(self) -> str | None:
        return self.says


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_REMEMBER_SECONDS", -1.0)


async def is_ready(of: Readiness) -> bool:
    return (await of.report()).ready


async def test_a_service_that_loses_another_stays_ready_and_says_so() -> None:
    ledger, gateway = Trouble("it is not there yet"), Readiness()
    gateway.add_service("ledger", ledger)
    gateway.set_state("ready")
    assert not await is_ready(gateway)  # it has never seen it: it may be told to look in the wrong place

    ledger.says = None
    assert await is_ready(gateway)
    ledger.says = "the projection is behind"
    report = await gateway.report()

    assert report.ready
    assert report.problems == {"ledger": "the projection is behind"}


async def test_what_it_cannot_work_without_makes_it_not_ready_each_time() -> None:
    disk, storage = Trouble(), Readiness()
    storage.add("database", disk)
    storage.set_state("ready")
    assert await is_ready(storage)

    disk.says = "the disk is full"
    assert not await is_ready(storage)


async def test_the_trouble_of_one_service_does_not_spread_over_those_that_call_it() -> None:
    """A chain of services, each with the next one's health as its check: only the last one is not ready."""
    peer = Trouble()
    ledger, storage, gateway = Readiness(), Readiness(), Readiness()

    def says_that_it_serves(of: Readiness) -> readiness.Check:
        async def check() -> str | None:
            return None if await is_ready(of) else "it says that it is not serving"

        return check

    ledger.add("peer", peer)
    storage.add_service("ledger", says_that_it_serves(ledger))
    gateway.add_service("ledger", says_that_it_serves(ledger))
    gateway.add_service("storage", says_that_it_serves(storage))
    for one in (ledger, storage, gateway):
        one.set_state("ready")
    assert [await is_ready(one) for one in (ledger, storage, gateway)] == [True] * 3

    peer.says = "the peer does not answer"
    assert [await is_ready(one) for one in (ledger, storage, gateway)] == [False, True, True]
