"""What was signed and whose outcome is not known: named by its ids, and kept to be sent again as it is
(`cbmdhi.client.outbox`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from cbmdhi.client.outbox import Kept, Outbox, commands_of
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import command

_IDS = ("consent_id", "record_id", "version", "address", "break_glass_id")
# Where a person sees whether it was done.
_LOOK = {
    "consent": ("consent", "list"),
    "revoke_consent": ("consent", "list"),
    "put_record": ("list", "-p", "{patient}"),
    "register_identity": ("wallet", "show"),
    "review_registration": ("review", "list"),
    "emergency_access": ("emergency", "list"),
}


@dataclass(frozen=True)
class Signed:
    """A command that was signed here, by its ids. `look`: the command line that shows whether it was done."""

    name: str
    ids: dict[str, str]
    look: tuple[str, ...]

    @property
    def document(self) -> dict[str, str]:
        """For machines."""
        return {"command": self.name, **self.ids}

    def __str__(self) -> str:
        return ", ".join([self.name, *(f"{name} {value}" for name, value in self.ids.items())])


@dataclass
class Unsure:
    """What one command line left open.

    kept      ids by which `cbmdhi resend` finds it
    not_kept  why nothing is
    """

    signed: list[Signed] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    not_kept: str = ""


def keep(folder: Path, requests: Iterable[Message]) -> Unsure:
    """Name what was signed, and keep what can be sent again; a reading is asked for anew."""
    requests = list(requests)
    signed = [named(one) for request in requests for one in commands_of(request)]
    try:
        return Unsure(signed, [kept.command_id for kept in Outbox(folder).keep(requests)])
    except OSError as error:
        # That its outcome is unknown counts for more than a folder that cannot be written.
        return Unsure(signed, [], f"{error.filename or folder}: {error.strerror or error}")


def of_kept(kept: Iterable[Kept]) -> Unsure:
    """What is in the outbox already."""
    there = list(kept)
    return Unsure(
        [named(signed) for one in there for signed in commands_of(one.request)],
        [one.command_id for one in there],
    )


def named(signed: pb.SignedCommand) -> Signed:
    """A signed command by its ids."""
    header, (name, body) = command.parse(signed)[0], command.body_of(signed)
    present: dict[str, Any] = {field.name: value for field, value in body.ListFields()}
    ids = {name: str(present[name]) for name in _IDS if name in present}
    look = tuple(word.format(patient=present.get("patient", "")) for word in _LOOK.get(name, ()))
    return Signed(name, {**ids, "command_id": header.command_id}, look or ("verify", header.command_id))
