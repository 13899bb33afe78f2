"""Whoever stops waiting (Ctrl-C, a time-out of their own) has what may have been sent, to send it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cbmdhi.client.commands import submit_group
from cbmdhi.client.outbox import Outbox
from cbmdhi.client.records import NewRecord
from cbmdhi.gateway.v1 import gateway_pb2
from tests.support.fakes.ingest_gateway import IngestGateway, new_record, serving
from tests.support.waiting import until
from tests.unit.cbmdhi.client import test_outcomes


async def cut_off(work: asyncio.Task[Any]) -> None:
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_a_put_that_is_cut_off_keeps_what_was_sent_and_is_done_once_when_it_is_sent_again(
    tmp_path: Path,
) -> None:
    gateway, outbox = IngestGateway(), Outbox(tmp_path)
    gateway.holds.clear()
    async with serving(gateway) as records:
        records._connection.on_cut = outbox.keep_cut
        put = asyncio.create_task(records.put([new_record(1), new_record(2)]))
        await until(lambda: len(gateway.committed) == 2, "both are sent")
        await cut_off(put)

        assert {kept.command_id for kept in outbox.list()} == set(gateway.committed)
        gateway.holds.set()
        for kept in outbox.list():
            assert isinstance(kept.request, gateway_pb2.SubmitRequest)
            item = gateway_pb2.IngestItem(
                submission_id=kept.command_id, group=kept.request.group, contents=kept.request.contents
            )
            assert [one.ok async for one in records.send([item])] == [True]
    assert len(gateway.committed) == 2


async def test_of_several_those_are_kept_too_whose_result_nobody_was_given(tmp_path: Path) -> None:
    gateway, outbox = IngestGateway(), Outbox(tmp_path)
    async with serving(gateway) as records:
        records._connection.on_cut = outbox.keep_cut

        async def source() -> AsyncIterator[NewRecord]:
            for number in range(3):
                yield new_record(number)
            await asyncio.Event().wait()

        given = asyncio.Event()

        async def look_at_the_first_only() -> None:
            async for _ in records.send(source()):
                given.set()
                await asyncio.Event().wait()

        sending = asyncio.create_task(look_at_the_first_only())
        await until(lambda: len(gateway.committed) == 3 and given.is_set(), "all are committed, one is given")
        await cut_off(sending)
        await records._connection.close()
    # The first was given to who asked.
    assert len(outbox.list()) == 2


async def test_what_had_not_left_is_not_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    async with test_outcomes.nobody(30.0) as connection:
        connection.on_cut = outbox.keep_cut
        sending = asyncio.create_task(submit_group(connection, test_outcomes.group()))
        for _ in range(10):
            await asyncio.sleep(0)
        await cut_off(sending)
    assert outbox.list() == []


async def test_a_group_that_is_cut_off_is_kept_as_it_was_signed(tmp_path: Path) -> None:
    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    gateway, outbox, signed = test_outcomes.AnsweringGateway(never), Outbox(tmp_path), test_outcomes.group()
    async with test_outcomes.serving(gateway) as connection:
        connection.on_cut = outbox.keep_cut
        sending = asyncio.create_task(submit_group(connection, signed))
        await until(lambda: gateway.sent, "it was sent")
        await cut_off(sending)
    assert [kept.request for kept in outbox.list()] == [gateway_pb2.SubmitRequest(group=signed)]


async def test_a_folder_that_cannot_be_written_does_not_hold_up_who_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path / "gone" / "away")
    assert outbox.keep_cut([gateway_pb2.SubmitRequest(group=test_outcomes.group())]) == []
    assert "could not be kept" in caplog.text
