"""What is done next with a batch follows from what failed, and says what became of its commands: nothing."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from services.ledger.domain import failures
from services.ledger.domain.failures import Remedy, is_of_the_clock, of_endorsement, of_validation

CONFLICTS = frozenset({11, 12})


@pytest.mark.parametrize(
    ("status", "remedy", "code"),
    [
        ("DEADLINE_EXCEEDED", Remedy.GIVE_UP, code_pb2.CODE_DEADLINE_EXCEEDED),
        ("UNAVAILABLE", Remedy.RETRY, code_pb2.CODE_UNAVAILABLE),
        ("CANCELLED", Remedy.RETRY, code_pb2.CODE_UNAVAILABLE),
        ("RESOURCE_EXHAUSTED", Remedy.RETRY, code_pb2.CODE_RESOURCE_EXHAUSTED),
        ("ABORTED", Remedy.RETRY, code_pb2.CODE_ENDORSEMENT_FAILED),
        ("FAILED_PRECONDITION", Remedy.GIVE_UP, code_pb2.CODE_ENDORSEMENT_FAILED),
        ("UNKNOWN", Remedy.GIVE_UP, code_pb2.CODE_ENDORSEMENT_FAILED),
    ],
)
def test_a_peer_that_is_away_is_tried_again_and_one_that_refuses_is_not(
    status: str, remedy: Remedy, code: int
) -> None:
    failure = of_endorsement(status, ("the peer's own words",))
    assert (failure.remedy, failure.code) == (remedy, code)
    assert "so nothing was done" in failure.reason


@pytest.mark.parametrize(
    ("status", "away"),
    [
        ("UNAVAILABLE", True),
        ("CANCELLED", True),
        ("ABORTED", True),
        ("FAILED_PRECONDITION", True),
        ("DEADLINE_EXCEEDED", False),
        ("UNKNOWN", False),
    ],
)
def test_a_batch_that_needs_a_custodian_is_halved_while_that_one_is_away(status: str, away: bool) -> None:
    assert (of_endorsement(status, (), needs_one=True) is failures.CUSTODIAN_AWAY) == away


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("CODE_UNAVAILABLE: clock: behind", Remedy.TELL_THE_TIME),
        ("CODE_INVALID: batch", Remedy.HALVE),
        ("CODE_TOO_LARGE: batch", Remedy.HALVE),
        ("CODE_INTERNAL: batch", Remedy.HALVE),
        ("CODE_FORBIDDEN: creator", Remedy.GIVE_UP),
    ],
)
def test_what_the_chaincode_refuses_is_halved_where_one_group_can_be_the_cause(
    message: str, remedy: Remedy
) -> None:
    failure = of_endorsement("UNAVAILABLE", ("nothing", message), needs_one=True)
    assert (failure.remedy, failure.code) == (remedy, failures.leading_code((message,)))


def test_whose_clock_it_is_is_told_by_the_chaincode() -> None:
    assert is_of_the_clock(("nothing", "CODE_UNAVAILABLE: clock: behind"))
    assert not is_of_the_clock(("CODE_UNAVAILABLE: peer", "he said CODE_UNAVAILABLE: clock: behind"))
    assert not is_of_the_clock(())


def test_a_transaction_that_came_second_is_tried_again_and_another_invalid_one_is_not() -> None:
    second, invalid = of_validation(11, "MVCC", CONFLICTS), of_validation(10, "ENDORSEMENT_POLICY", CONFLICTS)
    assert (second.remedy, second.code) == (Remedy.RETRY_THEN_HALVE, code_pb2.CODE_RESOURCE_EXHAUSTED)
    assert (invalid.remedy, invalid.code) == (Remedy.GIVE_UP, code_pb2.CODE_ENDORSEMENT_FAILED)
    assert "(ENDORSEMENT_POLICY)" in invalid.reason
