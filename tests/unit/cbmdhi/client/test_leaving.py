"""Whoever leaves a stream before its end is free at once: nothing runs on, nothing that was sent is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import CoroutineType
from typing import Any

import pytest

from cbmdhi.client import ingest
from cbmdhi.client.outbox import Outbox
from cbmdhi.client.records import NewRecord
from cbmdhi.errors import UnknownOutcome
from cbmdhi.gateway.v1 import gateway_pb2
from tests.support.fakes.ingest_gateway import IngestGateway, new_record, serving
from tests.support.waiting import until

# How long whoever leaves may take before the test says that it hangs.
_HANGS_SECONDS = 30.0


@contextmanager
def nothing_runs_on() -> Iterator[None]:
    """Every task that was begun inside has ended."""
    before = asyncio.all_tasks()
    yield
    assert [task for task in asyncio.all_tasks() - before if not task.done() and not is_of_grpc(task)] == []


def is_of_grpc(task: asyncio.Task[Any]) -> bool:
    """True of those that grpc has for a call or a server; they end by themselves."""
    coroutine = task.get_coro()
    # Those of its compiled part are no coroutines of Python's own.
    return not isinstance(coroutine, CoroutineType) or "/grpc/" in coroutine.cr_code.co_filename


class Endless:
    """A source that goes on for ever. `closed`: it was told that nobody takes from it any more."""

    def __init__(self) -> None:
        self.closed = False

    async def __call__(self) -> AsyncIterator[NewRecord]:
        try:
            for number in range(1 << 30):
                yield new_record(number)
                await asyncio.sleep(0)
        finally:
            self.closed = True


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not take results soon finds all places taken."""
    monkeypatch.setattr(ingest, "_MOST_WAITING", 3)


@pytest.mark.parametrize("how", ["break", "raise", "cancel"])
async def test_who_leaves_while_more_results_wait_than_there_are_places_is_free_at_once(
    how: str, tmp_path: Path
) -> None:
    gateway, outbox, source = IngestGateway(), Outbox(tmp_path), Endless()
    given: list[str] = []

    async def taking(records: Any) -> None:
        async with aclosing(records.send(source())) as results:
            async for written in results:
                given.append(written.command_id)
                await until(lambda: len(gateway.committed) > 6, "results wait, and some have no place")
                if how == "break":
                    break
                if how == "raise":
                    raise KeyError("the application")
                await asyncio.Event().wait()

    async with serving(gateway) as records:
        records._connection.on_cut = outbox.keep_cut
        with nothing_runs_on():
            work = asyncio.create_task(taking(records))
            if how == "cancel":
                await until(lambda: len(gateway.committed) > 6, "it is under way")
                work.cancel()
            await asyncio.wait({work}, timeout=_HANGS_SECONDS)
            assert work.done(), "it hangs"
        assert source.closed
        assert work.cancelled() == (how == "cancel")
        if how == "raise":
            assert isinstance(work.exception(), KeyError)
        kept = {one.command_id for one in outbox.list()}
        assert kept >= set(gateway.committed) - set(given)
        assert not kept & set(given)
        # As it was signed, and with no second effect.
        before = len(gateway.committed)
        again = [one.request for one in outbox.list()]
        items = [
            gateway_pb2.IngestItem(submission_id=f"again-{place}", group=one.group, contents=one.contents)
            for place, one in enumerate(again)
            if isinstance(one, gateway_pb2.SubmitRequest)
        ]
        assert all([one.ok async for one in records.send(items)])
        assert len(gateway.committed) == len(kept | set(gateway.committed)) >= before


async def test_a_source_that_fails_while_nobody_takes_results_holds_up_nobody_who_leaves() -> None:
    gateway = IngestGateway()

    async def failing() -> AsyncIterator[NewRecord]:
        for number in range(8):
            yield new_record(number)
        raise RuntimeError("the queue is gone")

    async with serving(gateway) as records:
        with nothing_runs_on():
            results = records.send(failing())
            assert (await anext(results)).ok
            await until(lambda: len(gateway.committed) == 8, "all is sent")
            await asyncio.wait_for(results.aclose(), _HANGS_SECONDS)


async def test_a_source_that_fails_waits_no_longer_for_a_gateway_that_does_not_answer_than_patience_lasts(
    tmp_path: Path,
) -> None:
    gateway, outbox = IngestGateway(), Outbox(tmp_path)
    gateway.holds.clear()

    async def failing() -> AsyncIterator[NewRecord]:
        yield new_record(1)
        await until(lambda: gateway.committed, "it was taken")
        raise RuntimeError("the queue is gone")

    async with serving(gateway) as records:
        records._connection.on_cut = outbox.keep_cut
        with nothing_runs_on(), pytest.raises(RuntimeError, match="the queue is gone"):
            async with asyncio.timeout(_HANGS_SECONDS):
                _ = [one async for one in records.send(failing(), patience_seconds=0.2)]
    assert {one.command_id for one in outbox.list()} == set(gateway.committed)


async def test_what_nobody_expected_of_a_stream_is_heard_by_who_takes_the_results(tmp_path: Path) -> None:
    gateway, outbox = IngestGateway(), Outbox(tmp_path)

    async def broken(_: Any) -> None:
        raise ZeroDivisionError("a fault")

    async with serving(gateway) as records:
        records._connection.on_cut = outbox.keep_cut
        with nothing_runs_on(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(ingest.Ingest, "_take", lambda self, response, _: broken(response))
            with pytest.raises(ZeroDivisionError):
                async with asyncio.timeout(_HANGS_SECONDS):
                    _ = [one async for one in records.send(Endless()())]
    assert len(outbox.list()) > 0


async def test_what_nobody_expected_of_a_stream_whose_time_was_over_is_heard_too() -> None:
    gateway = IngestGateway(token_seconds=1.0)
    gateway.holds.clear()
    takes = ingest.Ingest._take

    async def source() -> AsyncIterator[NewRecord]:
        yield new_record(1)
        await until(lambda: gateway.committed, "it was taken")
        while len(gateway.streams) < 2:
            yield new_record(2)
            await asyncio.sleep(0)
        gateway.holds.set()
        await asyncio.Event().wait()

    async def faulty(self: Any, response: gateway_pb2.IngestResponse, stream: Any) -> None:
        asked = [self._open[one.submission_id].what.record.record_id for one in response.results]
        if "record-1" in asked:
            raise ZeroDivisionError("a fault")
        await takes(self, response, stream)

    async with serving(gateway) as records:
        with nothing_runs_on(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(ingest.Ingest, "_take", faulty)
            patch.setattr(ingest, "_MOST_WAITING", 1_000)
            with pytest.raises(ZeroDivisionError):
                async with asyncio.timeout(_HANGS_SECONDS):
                    _ = [one async for one in records.send(source())]


async def test_requests_that_cannot_be_made_are_told_as_what_they_are() -> None:
    async def broken(_: Any) -> bool:
        raise ZeroDivisionError("a fault")

    async with serving(IngestGateway(token_seconds=0.1)) as records:
        with nothing_runs_on(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(records._connection, "is_renewed", broken)
            with pytest.raises(ZeroDivisionError):
                async with asyncio.timeout(_HANGS_SECONDS):
                    _ = [one async for one in records.send(Endless()())]


async def test_when_the_client_is_closed_under_it_a_stream_says_so_with_what_was_sent() -> None:
    gateway = IngestGateway()
    gateway.holds.clear()

    async def closing() -> AsyncIterator[NewRecord]:
        yield new_record(1)
        await until(lambda: gateway.committed, "it was taken")
        await records._connection.authenticated.close()
        await asyncio.Event().wait()

    async with serving(gateway) as records:
        with nothing_runs_on(), pytest.raises(UnknownOutcome, match="the client was closed") as caught:
            async with asyncio.timeout(_HANGS_SECONDS):
                _ = [one async for one in records.send(closing())]
    assert len(caught.value.again) == 1
