"""What a request to the ledger may hold, and who may submit what."""

from __future__ import annotations

from cbmdhi.ledger.v1.ledger_pb2 import SubmitRequest
from services.ledger.domain.batches import body_name
from services.runtime.refusal import Refused

MAX_LOOKED_UP = 500
MAX_BATCHES = 100
MAX_BATCH_COMMANDS = 2_000
MAX_EXPLAINED = 1_000
MAX_SEALED_KEYS = 100
MAX_PROVEN = 100


def check_submitter(request: SubmitRequest, service: str) -> None:
    """Only storage submits emergency accesses, and it submits nothing else. Raises Refused FORBIDDEN."""
    opens = service == "storage"
    for submission in request.submissions:
        for signed in submission.item.group.commands:
            if (body_name(signed) == "emergency_access") != opens:
                raise Refused.forbidden(
                    "storage carries an EmergencyAccess, which it opened, and nothing else; others do not"
                )


def check_given(value: str, path: str) -> None:
    """Raises Refused INVALID for an empty one."""
    if not value:
        raise Refused.invalid(f"{path} is required", path)


def check_count(count: int, most: int, path: str) -> None:
    """Raises Refused TOO_LARGE."""
    if count > most:
        raise Refused.too_large(f"at most {most} at once; ask for fewer", path)
