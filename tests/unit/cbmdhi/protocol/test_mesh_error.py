import pytest

from cbmdhi.command.v1 import code_pb2
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
