"""Each command of a group gets its receipt: what it was refused for, that nobody knows, or where it lies."""

from __future__ import annotations

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt, StoredContent
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from services.gateway.domain import group, results
from services.runtime.refusal import Refused
from tests.support.fakes.gateway_people import Person, put_together

ENGINE, PATIENT = Person(), Person()
COMMANDS = group.parse(put_together(ENGINE, PATIENT, 3).group)
WHY = Refused(code_pb2.CODE_FORBIDDEN, "no consent: ask the patient", "body.put_record.patient")


def test_the_one_to_blame_has_the_reason_and_its_companions_are_told_that_it_is_another() -> None:
    for blamed, why in ((0, WHY), (2, WHY.at(2))):
        found = [one.receipt for one in results.refused(COMMANDS, why)]
        assert [(one.command_id, one.signer) for one in found] == [
            (one.header.command_id, ENGINE.address) for one in COMMANDS
        ]
        assert {one.outcome for one in found} == {code_pb2.OUTCOME_NOT_DONE}
        other = [one for index, one in enumerate(found) if index != blamed]
        assert (found[blamed].code, found[blamed].reason, found[blamed].path) == (
            code_pb2.CODE_FORBIDDEN,
            WHY.reason,
            WHY.path,
        )
        assert {(one.code, one.path) for one in other} == {(code_pb2.CODE_GROUP_REFUSED, "")}
        assert all("another command of the group" in one.reason for one in other)


def test_of_what_was_cut_off_nobody_says_that_it_was_not_done() -> None:
    found = results.unknown(COMMANDS)
    assert {(one.code, one.outcome, one.path) for one in found} == {
        (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN, "")
    }
    assert [one.command_id for one in found] == [one.header.command_id for one in COMMANDS]
    assert all("sent again as it was signed" in one.reason for one in found)


def test_what_was_done_says_where_it_lies_and_who_holds_what_was_sealed_just_now() -> None:
    ok = Receipt(code=code_pb2.CODE_OK)
    before = Receipt(code=code_pb2.CODE_OK, already_committed=True)
    refused = Receipt(code=code_pb2.CODE_FORBIDDEN)
    held = ReplicaReceipt(msp="LakesideMSP")
    here, unheard = StoredContent(cid="here", root_sha256=b"root"), StoredContent(root_sha256=b"other")
    stored = {0: here, 1: here, 2: here, 4: unheard}

    found = results.committed([ok, before, refused, ok, ok], stored, {b"root": [held]})
    assert [one.receipt for one in found] == [ok, before, refused, ok, ok]
    assert [one.stored for one in found] == [here, here, StoredContent(), StoredContent(), unheard]
    assert [one.HasField("stored") for one in found] == [True, True, False, False, True]
    assert [list(one.replicas) for one in found] == [[held], [], [], [], []]
