"""Who may act, and what a suspended patient still may."""

import pytest

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1 import state_pb2
from cbmdhi.protocol import standing

PERMIT, DENY = pb.Provision(effect=pb.EFFECT_PERMIT), pb.Provision(effect=pb.EFFECT_DENY)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (pb.CommandBody(revoke_consent=pb.RevokeConsent()), True),
        (pb.CommandBody(consent=pb.Consent(provisions=[DENY])), True),
        (pb.CommandBody(consent=pb.Consent(provisions=[DENY, PERMIT])), False),
        (pb.CommandBody(consent=pb.Consent(provisions=[PERMIT])), False),
        (pb.CommandBody(access=pb.Access()), False),
        (pb.CommandBody(), False),
    ],
)
def test_what_only_takes_consent_away(body: pb.CommandBody, expected: bool) -> None:
    assert standing.only_takes_away(body) is expected


@pytest.mark.parametrize(
    ("role", "status", "reason", "expected"),
    [
        (pb.ROLE_PATIENT, state_pb2.IDENTITY_STATUS_SUSPENDED, "misuse", True),
        (pb.ROLE_PATIENT, state_pb2.IDENTITY_STATUS_SUSPENDED, "lost-key", False),
        (pb.ROLE_CLINICIAN, state_pb2.IDENTITY_STATUS_SUSPENDED, "misuse", False),
        (pb.ROLE_PATIENT, state_pb2.IDENTITY_STATUS_PENDING, "", False),
        (pb.ROLE_PATIENT, state_pb2.IDENTITY_STATUS_REJECTED, "", False),
    ],
)
def test_a_suspended_patient_takes_consent_away_unless_the_key_was_lost(
    role: pb.Role, status: state_pb2.IdentityStatus, reason: str, expected: bool
) -> None:
    identity = state_pb2.IdentityDocument(
        role=role, status=status, suspension=state_pb2.Suspension(reason_code=reason)
    )
    assert standing.may_take_away(identity) is expected
    assert not standing.is_active(identity)


def test_nobody_is_not_active() -> None:
    assert not standing.is_active(None)
    assert not standing.may_take_away(None)
    assert standing.is_active(state_pb2.IdentityDocument(status=state_pb2.IDENTITY_STATUS_ACTIVE))
