"""Whoever watches the check of a run sees that it goes on."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.load import check
from bench.load.plan import Load
from bench.load.registered import Person
from bench.load.tally import Kept, Stands, Tally
from cbmdhi.command.v1 import code_pb2
from ops.demo.cast import Stage


class Patient:
    """Reads whatever is asked for."""

    def __init__(self, _: Any) -> None:
        self.records = self

    async def __aenter__(self) -> Patient:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def read(self, *_: object) -> Any:
        return SimpleNamespace(content=b"content")


async def test_each_record_that_is_decrypted_is_counted_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "Client", Patient)
    stage = SimpleNamespace(endpoints={"organisations": {}}, wallet=lambda *_: None)
    tally = Tally(Load(rate=3, seconds=1))
    for number in range(3):
        tally.kept[number] = Kept("anna", f"r{number}", b"", sha256(b"content").digest())
        tally.stands[number] = Stands("tx", 1, f"c{number}", "", code_pb2.CODE_OK, "cid", "")
    told: list[str] = []

    checked = await check.check(cast(Stage, stage), [Person("anna", "anna")], tally, 10, told.append)

    assert checked.decrypted == 3
    assert told[2:] == [f"decrypting, {left} to go" for left in (3, 2, 1, 0)]
