"""What is sealed is one version of a record as its author committed to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import envelope
from cbmdhi.protocol.ids import uuid7
from services.storage.domain import batch
from services.storage.domain.batch import PlainRecord

SALT, CONTENT = bytes(32), b"{}"
ITEM = PlainRecord(
    record_id=uuid7(),
    version=1,
    patient="cb1" + "a" * 32,
    content=CONTENT,
    salt=SALT,
    commitment=envelope.commitment(SALT, CONTENT),
    command_id=uuid7(),
    signer="cb1" + "b" * 32,
)


def with_content(count: int) -> PlainRecord:
    content = bytes(count)
    return replace(ITEM, content=content, commitment=envelope.commitment(SALT, content))


def test_an_item_that_is_as_it_should_be_is_sealed() -> None:
    assert batch.check_item(ITEM) is None


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"record_id": "MRN 4711"}, code_pb2.CODE_INVALID, "record_id"),
        ({"version": 0}, code_pb2.CODE_INVALID, "version"),
        ({"patient": "Jane Doe"}, code_pb2.CODE_INVALID, "patient"),
        ({"command_id": "one"}, code_pb2.CODE_INVALID, "command_id"),
        ({"signer": "Jane Doe"}, code_pb2.CODE_INVALID, "signer"),
        ({"salt": bytes(31)}, code_pb2.CODE_INVALID, "salt"),
        ({"salt": bytes(33)}, code_pb2.CODE_INVALID, "salt"),
        ({"commitment": bytes(32)}, code_pb2.CODE_INTEGRITY, "committed"),
        ({"content": b"another"}, code_pb2.CODE_INTEGRITY, "committed"),
    ],
)
def test_an_item_that_is_not_is_refused_with_what_is_wrong(
    changes: dict[str, Any], code: int, said: str
) -> None:
    found = batch.check_item(replace(ITEM, **changes))
    assert found is not None
    assert (found.code, said in found.reason) == (code, True)


def test_a_content_may_be_as_large_as_the_limit_and_no_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_CONTENT_BYTES", 100)
    assert batch.check_item(with_content(100)) is None
    found = batch.check_item(with_content(101))
    assert found is not None
    assert found.code == code_pb2.CODE_TOO_LARGE


def test_a_batch_has_items_and_not_more_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_ITEMS", 3)
    monkeypatch.setattr(batch, "MAX_BATCH_BYTES", 100)

    def code(*items: PlainRecord) -> int:
        found = batch.check_batch(items)
        assert found is None or found.reason
        return code_pb2.CODE_OK if found is None else found.code

    assert code() == code_pb2.CODE_INVALID
    assert code(*[ITEM] * 3) == code_pb2.CODE_OK
    assert code(*[ITEM] * 4) == code_pb2.CODE_TOO_LARGE
    assert code(with_content(60), with_content(40)) == code_pb2.CODE_OK
    assert code(with_content(60), with_content(41)) == code_pb2.CODE_TOO_LARGE
