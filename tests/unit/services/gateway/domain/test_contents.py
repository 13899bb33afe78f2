"""Each PutRecord of a group has one content, and that is what its author committed to."""

from __future__ import annotations

from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import PutRecord, RevokeConsent
from cbmdhi.gateway.v1.gateway_pb2 import Content
from services.gateway.domain import contents, group
from services.runtime.refusal import Refused
from tests.support.fakes.gateway_people import Person, checker, put, put_together

ENGINE, PATIENT = Person(), Person()
TOGETHER = put_together(ENGINE, PATIENT, 2, (PATIENT, RevokeConsent(consent_id="x", patient=PATIENT.address)))
COMMANDS = group.parse(TOGETHER.group)
ONE = put(ENGINE, PATIENT)


def test_contents_are_found_by_the_place_of_their_command_in_any_order() -> None:
    first, second = TOGETHER.contents
    assert contents.match(COMMANDS, [second, first]) == {0: first, 1: second}


@pytest.mark.parametrize(
    ("indexes", "path", "index"),
    [
        ([0, 1, 2], "contents[2].command_index", None),
        ([0, 3, 1], "contents[1].command_index", None),
        ([0, 1, 1], "contents[2].command_index", 1),
        ([0], "contents", 1),
        ([1], "contents", 0),
        ([], "contents", 0),
    ],
)
def test_a_content_too_many_or_too_few_is_refused_with_whose_it_is(
    indexes: list[int], path: str, index: int | None
) -> None:
    with pytest.raises(Refused) as caught:
        contents.match(COMMANDS, [Content(command_index=at) for at in indexes])
    assert (caught.value.code, caught.value.path, caught.value.index) == (code_pb2.CODE_INVALID, path, index)


def test_a_content_that_is_what_was_signed_is_taken() -> None:
    contents.check(ONE.body, ONE.contents[0], checker())


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"salt": bytes(31)}, code_pb2.CODE_INVALID, "contents.salt"),
        ({"salt": bytes(32)}, code_pb2.CODE_INTEGRITY, "body.put_record.content_commitment"),
        ({"content": b"{}"}, code_pb2.CODE_INVALID, "body.put_record.content_bytes"),
    ],
)
def test_a_content_that_is_not_is_refused_where_it_differs(
    changes: dict[str, Any], code: int, path: str
) -> None:
    other = Content()
    other.CopyFrom(ONE.contents[0])
    for name, value in changes.items():
        setattr(other, name, value)
    with pytest.raises(Refused) as caught:
        contents.check(ONE.body, other, checker())
    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_resource_of_another_kind_than_the_command_says_is_refused() -> None:
    body = PutRecord()
    body.CopyFrom(ONE.body)
    body.category = "conditions"
    with pytest.raises(Refused) as caught:
        contents.check(body, ONE.contents[0], checker())
    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "body.put_record.category")
    assert caught.value.reason.startswith("body.put_record.category is observations")
