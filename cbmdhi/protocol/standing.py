"""Whether an identity may act.

The chaincode decides (chaincode/batch/admit.go). This is the same rule for whoever would
otherwise refuse before it is asked, or ask it in vain.
"""

from cbmdhi.command.v1.command_pb2 import EFFECT_DENY, ROLE_PATIENT, CommandBody
from cbmdhi.command.v1.state_pb2 import (
    IDENTITY_STATUS_ACTIVE,
    IDENTITY_STATUS_SUSPENDED,
    IdentityDocument,
)

_LOST_KEY = "lost-key"


def is_active(identity: IdentityDocument | None) -> bool:
    """True when the identity may do all that its role may."""
    return identity is not None and identity.status == IDENTITY_STATUS_ACTIVE


def may_take_away(identity: IdentityDocument | None) -> bool:
    """True for a suspended patient, who may still take consent away, but not with a key that was lost."""
    return (
        identity is not None
        and identity.status == IDENTITY_STATUS_SUSPENDED
        and identity.role == ROLE_PATIENT
        and identity.suspension.reason_code != _LOST_KEY
    )


def only_takes_away(body: CommandBody) -> bool:
    """True for a revocation, and for a consent that only denies."""
    match body.WhichOneof("body"):
        case "revoke_consent":
            return True
        case "consent":
            return all(line.effect == EFFECT_DENY for line in body.consent.provisions)
        case _:
            return False
