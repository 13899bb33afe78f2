"""Ctrl-C while something is under way: what was sent is kept and named, and nothing else is said of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from cbmdhi.cli import boundary, hints, shared, written_rows
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.client.commands import submit_group
from cbmdhi.client.connection import Connection
from cbmdhi.client.outbox import Outbox
from cbmdhi.client.records import Records, Written
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from tests.support.fakes.ingest_gateway import IngestGateway, serving
from tests.support.waiting import until
from tests.unit.cbmdhi.cli import test_unsure
from tests.unit.cbmdhi.cli.conftest import Typed
from tests.unit.cbmdhi.client.test_outcomes import AnsweringGateway, Open, group


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Also where the tests were started in the background of a script, by which it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Connected:
    """A client whose gateway takes what is sent and never answers; Ctrl-C is typed when it was taken."""

    def __init__(self, wallet: Any, _: str) -> None:
        self.wallet = wallet

    async def __aenter__(self) -> Connected:
        async def interrupted(_: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

        self.server = grpc.aio.server()
        gateway_pb2_grpc.add_CommandServiceServicer_to_server(AnsweringGateway(interrupted), self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.connection = Open(self.channel, 30)
        self.connection.on_cut = Outbox(self.wallet.folder).keep_cut
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.channel.close()
        await self.server.stop(0)


def test_what_was_sent_when_ctrl_c_came_is_kept_and_the_failure_says_how_to_send_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = group()
    monkeypatch.setattr(shared, "Client", Connected)
    monkeypatch.setattr(shared, "open_wallet", lambda *_: SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(hints, "down", lambda *_: None)

    with pytest.raises(Failure) as caught:
        shared.with_client("anna", tmp_path, "", lambda client: submit_group(client.connection, signed))

    [kept] = Outbox(tmp_path).list()
    assert kept.request == gateway_pb2.SubmitRequest(group=signed)
    told = caught.value
    assert (told.code, told.status) == ("INTERRUPTED", Status.INTERRUPTED)
    assert any(f"resend {kept.command_id}" in line for line in told.next_steps)


def test_ctrl_c_before_anything_was_sent_is_only_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(shared, "Client", Connected)
    monkeypatch.setattr(shared, "open_wallet", lambda *_: SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(hints, "down", lambda *_: None)

    with pytest.raises(KeyboardInterrupt) as caught:
        shared.with_client("anna", tmp_path, "", work)
    assert boundary.failure_of(caught.value).status is Status.INTERRUPTED
    assert Outbox(tmp_path).list() == []


PATIENT = "cb1zcynahh4slrtorcscddpcmjprqj3enok"
_PULSE = {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}}
_ENTRY = {"resource": _PULSE, "request": {"method": "POST", "url": "Observation"}}


class AnswersTheFirst(IngestGateway):
    """Commits all that comes, and tells of the first record alone."""

    async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            is_first = not self.committed
            results = [self._result(item) for item in request.items]
            if is_first:
                yield gateway_pb2.IngestResponse(results=results[:1])


class InterruptedAfterTheFirst:
    """A client that has sent all of a file, and was told of the first record, when Ctrl-C is typed."""

    def __init__(self, folder: Path) -> None:
        self.wallet, self.gateway = SimpleNamespace(folder=folder), AnswersTheFirst()

    async def __aenter__(self) -> InterruptedAfterTheFirst:
        self._stack = AsyncExitStack()
        served = await self._stack.enter_async_context(serving(self.gateway))
        self.connection = served._connection
        self.connection.on_cut = Outbox(self.wallet.folder).keep_cut
        gateway = self.gateway

        class Interrupted(Records):
            async def send(self, records: Any, **how: Any) -> AsyncGenerator[Written]:
                async with aclosing(super().send(records, **how)) as results:
                    async for one in results:
                        await until(lambda: len(gateway.committed) == 3, "all are sent")
                        yield one
                        os.kill(os.getpid(), signal.SIGINT)

        self.records = Interrupted(self.connection)
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._stack.aclose()


@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
def test_ctrl_c_while_a_file_is_sent_says_what_is_done_what_is_not_known_and_how_it_is_sent_again(
    as_json: bool, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "wallets" / "anna"
    client = InterruptedAfterTheFirst(folder)
    monkeypatch.setattr(shared, "Client", lambda *_: client)
    monkeypatch.setattr(hints, "down", lambda *_: None)
    file = home / "bundle.json"
    file.write_text(json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [_ENTRY] * 3}))

    told = typed("put", str(file), "-p", PATIENT, *(["--json"] if as_json else []))

    kept = {one.command_id for one in Outbox(folder).list()}
    assert told.exit_code == Status.INTERRUPTED, told.output
    [done] = set(client.gateway.committed) - kept
    assert len(kept) == 2
    assert "Traceback" not in told.output
    for one in kept:
        assert f"resend {one}" in told.output
    assert "1 of 3 records have a result" in told.output
    if as_json:
        error = json.loads(told.stdout)["error"]
        assert (error["exit"], error["outcome"]) == (130, "UNKNOWN")
        assert [row["command_id"] for row in error["written"]] == [done]
    else:
        assert f"command {done}" in told.stdout


def test_ctrl_c_while_the_results_are_printed_still_says_what_is_not_known(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = test_unsure.at(channel := test_unsure.Losing(), home, monkeypatch)
    breaking = test_unsure.Breaking(cast(Connection, channel))
    monkeypatch.setattr(test_unsure.At, "records", breaking, raising=False)
    file = home / "bundle.json"
    file.write_text(json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [_ENTRY] * 9}))

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(written_rows, "print_rows", interrupted)
    told = typed("put", str(file), "-p", PATIENT)

    assert told.exit_code == Status.INTERRUPTED, told.output
    assert len(list(outbox.iterdir())) == 8
    assert "resend --all -w anna" in told.stderr
    assert sum(one.stem in told.stderr for one in outbox.iterdir()) == 3


@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
def test_ctrl_c_after_all_results_came_still_names_each(
    as_json: bool, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_unsure.at(channel := test_unsure.Losing(), home, monkeypatch)
    breaking = test_unsure.Breaking(cast(Connection, channel))
    monkeypatch.setattr(test_unsure.At, "records", breaking, raising=False)
    file = home / "bundle.json"
    file.write_text(json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [_ENTRY] * 3}))
    make, made = written_rows.row_of, []

    def interrupted_at_first(*row: Any) -> dict[str, Any]:
        made.append(row)
        if len(made) == 1:
            raise KeyboardInterrupt
        return make(*row)

    monkeypatch.setattr(written_rows, "row_of", interrupted_at_first)
    told = typed("put", str(file), "-p", PATIENT, *(["--json"] if as_json else []))

    assert told.exit_code == Status.INTERRUPTED, told.output
    assert "3 of 3 records have a result" in told.output
    assert len(made) == 1 + 3
