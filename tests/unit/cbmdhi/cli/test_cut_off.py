"""Ctrl-C while something is under way: what was sent is kept and named, and nothing else is said of it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from cbmdhi.cli import boundary, hints, shared
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.client.commands import submit_group
from cbmdhi.client.outbox import Outbox
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from tests.unit.cbmdhi.client.test_outcomes import Gateway, Open, group


class Connected:
    """A client whose gateway takes what is sent and never answers; Ctrl-C is typed when it was taken."""

    def __init__(self, wallet: Any, _: str) -> None:
        self.wallet = wallet

    async def __aenter__(self) -> Connected:
        async def interrupted(_: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

        self.server = grpc.aio.server()
        gateway_pb2_grpc.add_CommandServiceServicer_to_server(Gateway(interrupted), self.server)
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
    assert (told.code, told.status) == ("INTERRUPTED", Status.UNKNOWN)
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
