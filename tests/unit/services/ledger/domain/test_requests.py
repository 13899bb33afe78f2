import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Command as Header
from cbmdhi.command.v1.command_pb2 import CommandBody, CommandGroup, EmergencyAccess, PutRecord, SignedCommand
from cbmdhi.command.v1.state_pb2 import BatchItem
from cbmdhi.ledger.v1.ledger_pb2 import SealedGroup, SubmitRequest
from services.ledger.domain import requests
from services.runtime.refusal import Refused


def submission(body: CommandBody) -> SealedGroup:
    header = Header(body=body.SerializeToString())
    signed = SignedCommand(command=header.SerializeToString())
    return SealedGroup(item=BatchItem(group=CommandGroup(commands=[signed])))


RECORD = submission(CommandBody(put_record=PutRecord(version=1)))
EMERGENCY = submission(CommandBody(emergency_access=EmergencyAccess()))


def test_what_is_named_has_to_be_given() -> None:
    requests.check_given("cb1", "address")

    with pytest.raises(Refused, match="address is required") as caught:
        requests.check_given("", "address")

    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "address")


def test_as_much_as_may_be_asked_for_is_given_and_no_more() -> None:
    requests.check_count(3, 3, "keys")

    with pytest.raises(Refused, match="at most 3 at once") as caught:
        requests.check_count(4, 3, "keys")

    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_TOO_LARGE, "keys")


@pytest.mark.parametrize(
    ("service", "may"), [("gateway", RECORD), ("identity", RECORD), ("storage", EMERGENCY)]
)
def test_only_storage_submits_emergency_accesses_and_nothing_else(service: str, may: SealedGroup) -> None:
    other = EMERGENCY if may is RECORD else RECORD
    requests.check_submitter(SubmitRequest(submissions=[may, may]), service)

    with pytest.raises(Refused, match="storage carries an EmergencyAccess") as caught:
        requests.check_submitter(SubmitRequest(submissions=[may, other]), service)

    assert caught.value.code == code_pb2.CODE_FORBIDDEN
