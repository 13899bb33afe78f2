"""An error says what to do, where, when again, and whether anything happened."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import mesh_error
from cbmdhi.protocol.mesh_error import MeshError, code_name

NO_ERRORS = {
    code_pb2.CODE_UNSPECIFIED,
    code_pb2.CODE_OK,
    # Only receipts have these.
    code_pb2.CODE_ALREADY_COMMITTED,
    code_pb2.CODE_GROUP_REFUSED,
}
ERRORS = sorted(set(code_pb2.Code.values()) - NO_ERRORS)


@pytest.mark.parametrize("code", ERRORS, ids=code_name)
def test_each_code_of_an_error_has_a_constructor_of_its_name(code: int) -> None:
    make = getattr(MeshError, code_name(code).lower())

    err = make("come back later", "items", 250, code_pb2.OUTCOME_NOT_DONE)

    assert (type(err), err.code, err.reason, err.path, err.retry_after_ms, err.outcome) == (
        *(MeshError, code, "come back later", "items", 250, code_pb2.OUTCOME_NOT_DONE),
    )


def test_a_constructor_makes_the_kind_that_it_is_asked_of() -> None:
    class Refusal(MeshError):
        """A finer kind."""

    err = Refusal.not_found("nothing is there")

    assert isinstance(err, Refusal)
    assert str(err) == "NOT_FOUND: nothing is there"
    assert (err.path, err.retry_after_ms, err.outcome) == ("", 0, code_pb2.OUTCOME_UNSPECIFIED)


def test_an_error_reads_as_a_sentence_with_its_code_and_its_place() -> None:
    nowhere = MeshError(code_pb2.CODE_FORBIDDEN, "no consent: ask the patient")
    assert str(nowhere) == "FORBIDDEN: no consent: ask the patient"
    somewhere = MeshError(code_pb2.CODE_INVALID, "not a UUIDv7", "body.put_record.record_id")
    assert str(somewhere) == "INVALID: not a UUIDv7 (at body.put_record.record_id)"
    assert somewhere.code_name == "INVALID"


def test_a_code_that_is_not_on_the_list_has_no_name_of_its_own() -> None:
    assert mesh_error.code_name(code_pb2.CODE_OK) == "OK"
    assert mesh_error.code_name(4711) == "UNSPECIFIED"


def test_nothing_was_done_only_where_that_is_said() -> None:
    for outcome in code_pb2.Outcome.values():
        error = MeshError(code_pb2.CODE_UNAVAILABLE, "later", outcome=outcome)
        assert error.nothing_done == (outcome == code_pb2.OUTCOME_NOT_DONE)
    unsaid = MeshError(code_pb2.CODE_UNAVAILABLE, "later")
    assert (unsaid.outcome, unsaid.retry_after_ms, unsaid.path) == (code_pb2.OUTCOME_UNSPECIFIED, 0, "")


def test_what_a_service_sent_is_what_is_raised() -> None:
    detail = code_pb2.ErrorDetail(
        code=code_pb2.CODE_RESOURCE_EXHAUSTED,
        reason="slower",
        path="signer",
        retry_after_ms=70,
        outcome=code_pb2.OUTCOME_NOT_DONE,
    )
    error = mesh_error.of_detail(detail)
    assert (error.code, error.reason, error.path, error.retry_after_ms, error.outcome) == (
        detail.code,
        "slower",
        "signer",
        70,
        detail.outcome,
    )
    assert error.args == (detail.code, "slower", "signer", 70, detail.outcome)
