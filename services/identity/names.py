"""Names of roles in messages and in the rules: `Role.ROLE_PRIVACY_OFFICER` is `privacy_officer`."""

from __future__ import annotations

from cbmdhi.command.v1.command_pb2 import Role

_PREFIX = "ROLE_"


def role(number: int) -> str:
    """The lower-case name without its prefix; `unspecified` for a number that is not on the list."""
    names = Role.DESCRIPTOR.values_by_number
    return names[number].name.removeprefix(_PREFIX).lower() if number in names else "unspecified"
