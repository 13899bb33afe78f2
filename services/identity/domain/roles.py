"""Roles, as certificates and tokens name them: the lower-case name of `Role` without its prefix."""

from __future__ import annotations

from services.runtime.refusal import Refused

PATIENT = "patient"
ADMINISTRATOR = "administrator"
INVITED = frozenset({"clinician", ADMINISTRATOR, "engine", "device", "researcher", "privacy_officer"})
"""Roles that need an administrator's invitation."""


def check_invitable(role: str) -> None:
    """Raise Refused INVALID unless the role is one to be invited to."""
    if role == PATIENT:
        raise Refused.invalid("a patient needs no invitation; enrol without a secret", "role")
    if role not in INVITED:
        raise Refused.invalid(f"choose a role: one of {', '.join(sorted(INVITED))}", "role")


def check_enrollable(role: str, secret: str) -> None:
    """Raise Refused unless the role is known and comes with a secret where it needs one."""
    if role == PATIENT:
        if secret:
            raise Refused.invalid("a patient enrols without a secret; leave it empty", "secret")
    elif role not in INVITED:
        raise Refused.invalid(f"choose a role: {PATIENT}, or one of {', '.join(sorted(INVITED))}", "role")
    elif not secret:
        raise Refused.unauthenticated(
            "this role needs an invitation; ask an administrator for its secret", "secret"
        )
