"""An ingest goes on for days, over new tokens and broken streams: each result once, and no refusal unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from cbmdhi.client import ingest
from cbmdhi.client.records import NewRecord, Records, Written
from cbmdhi.client.tokens import Issued
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, Misuse, NotAllWritten, NotCommitted, NotSent, UnknownOutcome
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command
from services.runtime.errors import MeshError as OfService
from services.runtime.errors import to_status
from tests.support.fakes.evidence import PATIENT
from tests.support.fakes.ingest_gateway import IngestGateway, Timeless, new_record, serving
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def waits_cost_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "Backoff", Timeless)


async def steadily(gateway: IngestGateway, streams: int) -> AsyncIterator[NewRecord]:
    """One record after the other until there were so many streams."""
    number = 0
    while len(gateway.streams) < streams:
        yield new_record(number)
        number += 1
        await asyncio.sleep(0.005)


async def test_a_stream_outlives_ten_tokens_and_is_never_cut_off() -> None:
    gateway = IngestGateway(token_seconds=0.4)
    async with serving(gateway) as records:
        sending = records.send(steadily(gateway, streams=10), patience_seconds=5.0)
        written = [one async for one in sending]

    assert len(written) == len(gateway.committed) > 10
    assert all(one.ok for one in written)
    assert set(gateway.committed.values()) == {1}
    assert gateway.cut_off == 0
    assert len(set(gateway.streams)) == len(gateway.streams) >= 10


async def test_streams_that_break_for_days_are_mended_as_long_as_each_brings_something() -> None:
    # Many more breaks than there is patience for without a result in between.
    gateway = IngestGateway(breaks=[1] * 20)
    async with serving(gateway) as records:
        sending = records.send(steadily(gateway, streams=21), patience_seconds=1.0)
        written = [one async for one in sending]

    names = [one.record.record_id for one in written]
    assert len(names) == len(set(names)) == len(gateway.committed)
    assert all(one.ok for one in written)


async def test_results_that_come_late_come_by_the_old_stream_while_the_new_one_sends() -> None:
    gateway = IngestGateway(token_seconds=0.4)
    gateway.holds.clear()

    async def source() -> AsyncIterator[NewRecord]:
        # The next token's stream is opened by what is to be sent.
        async for record in steadily(gateway, streams=2):
            yield record
        gateway.holds.set()

    async with serving(gateway) as records:
        written = [one async for one in records.send(source())]
    assert all(one.ok for one in written)
    assert {one.command_id for one in written} == set(gateway.committed)
    assert set(gateway.committed.values()) == {1}


async def test_what_stays_unsent_when_patience_ends_comes_back_signed_and_it_is_told_why() -> None:
    gateway = IngestGateway(breaks=[0] * 1000)
    async with serving(gateway) as records:
        with pytest.raises(UnknownOutcome, match="streams in a row brought no result") as caught:
            _ = [one async for one in records.send([new_record(1), new_record(2)], patience_seconds=0.5)]
        assert len(caught.value.again) == 2
        gateway.breaks = []
        # Exactly that, once more.
        written = [one async for one in records.send(caught.value.again)]
    assert sorted(one.record.record_id for one in written) == ["record-1", "record-2"]
    assert len(gateway.committed) == 2  # though each was sent often


async def test_a_refused_record_is_never_taken_for_a_written_one() -> None:
    forbidden = Receipt(code=code_pb2.CODE_FORBIDDEN, reason="no consent", outcome=code_pb2.OUTCOME_COMMITTED)
    gateway = IngestGateway(refuses=lambda record_id: forbidden if record_id == "record-1" else None)
    async with serving(gateway) as records:
        assert (await records.put(new_record(0))).tx_id == "tx"
        with pytest.raises(NotCommitted, match="no consent") as refused:
            await records.put(new_record(1))
        assert refused.value.receipt.code == code_pb2.CODE_FORBIDDEN

        with pytest.raises(NotAllWritten, match="1 of 3 records are not written") as caught:
            await records.put([new_record(0), new_record(1), new_record(2)])
        assert [one.ok for one in caught.value.written] == [True, False, True]
        assert caught.value.again == ()

        [streamed] = [one async for one in records.send([new_record(1)])]
        for use in (lambda: streamed.receipt, lambda: streamed.tx_id, lambda: streamed.cid):
            with pytest.raises(NotCommitted, match="no consent"):
                use()


async def test_what_the_gateway_did_not_do_comes_back_with_what_was_signed() -> None:
    busy = OfService(code_pb2.CODE_UNAVAILABLE, "the disk is full", outcome=code_pb2.OUTCOME_NOT_DONE)
    gateway = IngestGateway(refuses=lambda record_id: busy if record_id == "record-1" else None)
    async with serving(gateway) as records:
        with pytest.raises(NotSent, match="the disk is full") as caught:
            await records.put(new_record(1))
        with pytest.raises(NotAllWritten) as several:
            await records.put([new_record(0), new_record(1)])
    for again in (caught.value.again, several.value.again):
        [item] = again
        assert command.parse(item.group.commands[0])[1].put_record.record_id == "record-1"  # type: ignore[union-attr]


async def test_two_versions_of_a_record_that_are_sent_together_have_each_its_own_result() -> None:
    gateway = IngestGateway()
    async with serving(gateway) as records:
        first = new_record(1)
        second = NewRecord(PATIENT, first.content, first.record_id, version=2)
        written = await records.put([first, second, first])
    assert [(one.record.version, one.ok) for one in written] == [(1, True), (2, True), (1, True)]
    assert len({one.command_id for one in written}) == 3


_LARGE = b'{"resourceType":"Observation","x":"' + b"x" * (17 << 20) + b'"}'


async def test_what_cannot_be_sent_is_told_at_once_and_holds_up_nothing() -> None:
    gateway, told = IngestGateway(), asyncio.Event()

    async def source() -> AsyncIterator[NewRecord]:
        yield NewRecord(PATIENT, _LARGE, "too-large")
        await told.wait()
        yield new_record(1)

    async with serving(gateway) as records, aclosing(records.send(source())) as results:
        large = await asyncio.wait_for(anext(results), 5)
        assert large.error is not None
        assert large.error.code == code_pb2.CODE_TOO_LARGE
        told.set()
        assert (await anext(results)).ok
        both = await records.put_each([NewRecord(PATIENT, _LARGE, "too-large"), new_record(1)])
    assert [one.ok for one in both] == [False, True]


async def test_a_source_that_fails_fails_the_stream_after_what_was_sent_has_its_result() -> None:
    async def source() -> AsyncIterator[NewRecord]:
        yield new_record(1)
        raise RuntimeError("the queue is gone")

    written: list[Written] = []

    async def send(records: Records) -> None:
        async for one in records.send(source()):
            written.append(one)

    async with serving(IngestGateway()) as records:
        with pytest.raises(RuntimeError, match="the queue is gone"):
            await send(records)
    assert [one.ok for one in written] == [True]


async def test_an_identity_that_is_suspended_ends_the_stream_at_once() -> None:
    class Suspended(IngestGateway):
        async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            self.streams.append("")
            status = to_status(
                OfService(code_pb2.CODE_INACTIVE_SIGNER, "suspended", outcome=code_pb2.OUTCOME_NOT_DONE)
            )
            await context.abort(status.code, status.details, status.trailing_metadata)
            yield gateway_pb2.IngestResponse()

    gateway = Suspended()
    async with serving(gateway) as records:
        with pytest.raises(MeshError, match="suspended"):
            await records.put(new_record(1))
    assert len(gateway.streams) == 1


async def test_of_what_an_earlier_stream_still_carries_nobody_says_that_it_was_not_sent() -> None:
    class SuspendedLater(IngestGateway):
        async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            if self.streams:
                why = OfService(code_pb2.CODE_INACTIVE_SIGNER, "suspended", outcome=code_pb2.OUTCOME_NOT_DONE)
                status = to_status(why)
                await context.abort(status.code, status.details, status.trailing_metadata)
            async for response in super().Ingest(requests, context):
                yield response

    gateway = SuspendedLater(token_seconds=1.0)
    gateway.holds.clear()

    async def source() -> AsyncIterator[NewRecord]:
        yield new_record(1)
        await until(lambda: gateway.committed, "it was taken")
        while True:
            yield new_record(2)
            await asyncio.sleep(0.01)

    async with serving(gateway) as records:
        with pytest.raises(UnknownOutcome, match="suspended") as caught:
            _ = [one async for one in records.send(source())]
    assert set(gateway.committed) < {
        command.parse(one.group.commands[0])[0].command_id for one in caught.value.again
    }  # type: ignore[union-attr]


class Silent(IngestGateway):
    """Takes what is sent and answers nothing, or on two streams nothing to one whom it leaves out."""

    leaves_out: str = ""

    async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.streams.append("")
        leaves_out = self.leaves_out if len(self.streams) < 3 else "nobody"
        async for request in requests:
            for item in request.items:
                record_id = command.parse(item.group.commands[0])[1].put_record.record_id
                if leaves_out and record_id != leaves_out:
                    yield gateway_pb2.IngestResponse(results=[self._result(item)])
        if leaves_out != "nobody":
            await asyncio.Event().wait()


async def test_a_gateway_that_takes_a_record_and_never_answers_leaves_it_unknown() -> None:
    gateway = Silent()
    async with serving(gateway, seconds=0.5) as records:
        with pytest.raises(UnknownOutcome, match="gave no answer within") as caught:
            await records.put(new_record(1))
        [one, other] = await records.put_each([new_record(1), new_record(2)])
    assert len(caught.value.again) == 1
    for written in (one, other):
        assert isinstance(written.error, UnknownOutcome)
        assert len(written.error.again) == 1
    assert len(gateway.streams) == 2


async def test_what_a_gateway_leaves_unanswered_goes_over_to_another_stream() -> None:
    gateway = Silent()
    gateway.leaves_out = "record-0"

    async with serving(gateway) as records:
        sending = records.send(steadily(gateway, streams=3), patience_seconds=1.0)
        written = [one async for one in sending]
    assert all(one.ok for one in written)
    assert "record-0" in [one.record.record_id for one in written]


async def test_a_caller_that_takes_its_time_is_no_gateway_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest, "_MOST_WAITING", 1)
    gateway = IngestGateway()
    async with serving(gateway) as records:
        sending = records.send([new_record(n) for n in range(4)], patience_seconds=0.5)
        first = await anext(sending)
        await until(lambda: len(gateway.committed) == 4, "all is committed")
        now = asyncio.get_running_loop().time
        patience_ends = now() + 0.6
        await until(lambda: now() > patience_ends, "a gateway would have been given up")
        written = [first, *[one async for one in sending]]
    assert [one.ok for one in written] == [True] * 4
    assert len(gateway.streams) == 1


async def test_two_different_records_under_one_submission_id_are_not_taken_for_one() -> None:
    gateway = IngestGateway()
    gateway.holds.clear()
    async with serving(gateway) as records:
        one, other = (records.prepare(new_record(n)).item for n in range(2))
        other.submission_id = one.submission_id
        sending = records.send([one, other, one])
        refused = await anext(sending)
        gateway.holds.set()
        left = [written async for written in sending]
    assert refused.record.record_id == "record-1"
    assert isinstance(refused.error, Misuse)
    assert "a submission id of its own" in refused.error.reason
    assert [(written.record.record_id, written.ok) for written in left] == [("record-0", True)]


async def test_a_gateway_that_says_each_token_is_over_at_once_is_given_up_when_patience_ends() -> None:
    class Refusing(IngestGateway):
        async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            self.streams.append("")
            status = to_status(OfService(code_pb2.CODE_UNAUTHENTICATED, "the token has expired"))
            await context.abort(status.code, status.details, status.trailing_metadata)
            yield gateway_pb2.IngestResponse()

    gateway = Refusing(token_seconds=0.0)
    async with serving(gateway) as records:
        with pytest.raises(MeshError, match="streams in a row brought no result"):
            _ = [one async for one in records.send([new_record(1)], patience_seconds=5.0)]
    # As many as fit with waits that grow.
    assert 2 < len(gateway.streams) < 10


async def test_a_login_that_takes_too_long_is_a_break_like_any_other() -> None:
    class Stalled(IngestGateway):
        async def login(self) -> Issued:
            if self.streams and len(self.ends) < 4:
                self.ends[f"stalled {len(self.ends)}"] = 0.0
                raise MeshError(
                    code_pb2.CODE_DEADLINE_EXCEEDED, "no answer", outcome=code_pb2.OUTCOME_UNKNOWN
                )
            return await super().login()

    gateway = Stalled(token_seconds=0.4)
    async with serving(gateway) as records:
        sending = records.send(steadily(gateway, streams=3), patience_seconds=30.0)
        written = [one async for one in sending]

    assert all(one.ok for one in written)
    assert len(written) == len(gateway.committed)
    assert "stalled 1" in gateway.ends
