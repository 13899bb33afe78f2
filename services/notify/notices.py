"""What notify knows of people, and what it tells them."""

from dataclasses import dataclass
from typing import NamedTuple

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2

_ACTIVE = state_pb2.IDENTITY_STATUS_ACTIVE
_STAFF_ROLES = frozenset((command_pb2.ROLE_ADMINISTRATOR, command_pb2.ROLE_PRIVACY_OFFICER))


class Identity(NamedTuple):
    """What is kept of an identity document."""

    address: str
    role: int
    home_msp: str
    status: int
    version: int

    @property
    def is_staff(self) -> bool:
        """An active administrator or privacy officer."""
        return self.status == _ACTIVE and self.role in _STAFF_ROLES


@dataclass(frozen=True)
class ReviewRule:
    """How many members must approve a registration for a role (policy)."""

    role: int
    quorum: int
    home_only: bool


class Notice(NamedTuple):
    """A notification before it has its number. Fields as in `notify.v1.Notification`."""

    owner: str
    kind: str
    tx_id: str
    block: int
    at_ms: int
    actor: str = ""
    actor_msp: str = ""
    record_id: str = ""
    version: int = 0
    category: str = ""
    purpose: str = ""
    consent_id: str = ""
    code: int = code_pb2.CODE_OK
    command_id: str = ""
    subject: str = ""


class Notification(NamedTuple):
    """A notice in its owner's inbox."""

    notification_id: int
    notice: Notice
    acknowledged: bool
