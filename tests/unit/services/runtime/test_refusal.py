import pytest

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import copied
from services.runtime.refusal import Refused


def test_a_refusal_that_is_blamed_on_a_command_stays_as_it_is_for_others() -> None:
    refused = Refused.expired("sign it again", "expires_at_ms", 250)

    blamed = refused.at(3)

    assert (refused.index, blamed.index) == (None, 3)
    assert (type(blamed), blamed.code, blamed.reason, blamed.path, blamed.retry_after_ms) == (
        *(Refused, code_pb2.CODE_EXPIRED, "sign it again", "expires_at_ms", 250),
    )


def test_a_copy_for_another_waiting_caller_is_the_same_refusal_without_its_traceback() -> None:
    with pytest.raises(Refused) as caught:
        raise Refused.invalid("not so", "body").at(2)

    copy = copied(caught.value)

    assert (type(copy), copy.args, vars(copy)) == (Refused, caught.value.args, vars(caught.value))
    assert (copy is caught.value, copy.__traceback__) == (False, None)
