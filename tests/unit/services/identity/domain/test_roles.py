"""Who may be invited, and who enrols with what."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from services.identity.domain import roles
from services.runtime.refusal import Refused


def test_a_patient_enrols_by_itself_and_everybody_else_by_invitation() -> None:
    roles.check_enrollable("patient", "")
    for role in roles.INVITED:
        roles.check_enrollable(role, "secret")
        roles.check_invitable(role)


@pytest.mark.parametrize(
    ("role", "secret", "code", "path"),
    [
        ("patient", "secret", code_pb2.CODE_INVALID, "secret"),
        ("surgeon", "secret", code_pb2.CODE_INVALID, "role"),
        ("", "", code_pb2.CODE_INVALID, "role"),
        ("clinician", "", code_pb2.CODE_UNAUTHENTICATED, "secret"),
    ],
)
def test_who_enrols_otherwise_is_told_what_is_wrong(role: str, secret: str, code: int, path: str) -> None:
    with pytest.raises(Refused) as caught:
        roles.check_enrollable(role, secret)
    assert (caught.value.code, caught.value.path, bool(caught.value.reason)) == (code, path, True)


@pytest.mark.parametrize("role", ["patient", "surgeon", ""])
def test_nobody_is_invited_to_what_needs_no_invitation_or_is_no_role(role: str) -> None:
    with pytest.raises(Refused) as caught:
        roles.check_invitable(role)
    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "role")
