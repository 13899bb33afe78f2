"""Roles by the names that a person types."""

from __future__ import annotations

from typing import cast

from cbmdhi.cli import mistyped
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import Misuse

ROLES: dict[str, pb.Role] = {
    name.removeprefix("ROLE_").lower().replace("_", "-"): cast(pb.Role, value)
    for name, value in pb.Role.items()
    if value
}


def role_named(name: str) -> pb.Role:
    """The role of that name. Raises Misuse with those that there are."""
    if name not in ROLES:
        raise Misuse(f"no role {name!r}; {mistyped.of(name, ROLES)}", "role")
    return ROLES[name]


def name_of_role(role: int) -> str:
    """The name of a role, as it is typed."""
    return next((name for name, value in ROLES.items() if value == role), "")
