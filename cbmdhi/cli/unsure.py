"""What was signed and whose outcome is not known: named by its ids, and kept to be sent again as it is.

A file for each request under WALLET/unsure, of mode 0600: it is signed, and may hold a record's content.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from cbmdhi.cli import prefixes
from cbmdhi.client import Client
from cbmdhi.client.commands import submit_group
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import Misuse
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, SubmitRequest
from cbmdhi.identity.v1.identity_pb2 import RegisterRequest, ReviewRequest
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command

Request = SubmitRequest | RegisterRequest | ReviewRequest

_KINDS = {kind.DESCRIPTOR.full_name: kind for kind in (SubmitRequest, RegisterRequest, ReviewRequest)}
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
    """What one command line left open. `kept` are the ids by which `cbmdhi resend` finds it."""

    signed: list[Signed] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def keep(folder: Path, requests: Iterable[Message]) -> Unsure:
    """Name what was signed, and keep what can be sent again; a reading is asked for anew."""
    found = Unsure()
    for request in requests:
        commands = commands_of(request)
        found.signed += [_named(signed) for signed in commands]
        again = _to_submit(request)
        if commands and again is not None:
            found.kept.append(_write(folder, command.parse(commands[0])[0].command_id, again))
    return found


def kept_in(folder: Path, what: str) -> tuple[Path, Request]:
    """The request that was kept under a command's id, or its beginning, or in a file. Raises Misuse."""
    kept = {entry.stem: entry for entry in _folder(folder).glob("*.json")}
    begins = any(command_id.startswith(what.rstrip("…")) for command_id in kept)
    file = kept[prefixes.resolved(what, kept, "command that was kept")] if begins else Path(what)
    try:
        document = json.loads(file.read_text())
        kind, raw = _KINDS[document["kind"]], base64.b64decode(document["request"], validate=True)
        return file, kind.FromString(raw)
    except FileNotFoundError as error:
        there = ", ".join(sorted(kept)) or "none"
        raise Misuse(f"nothing was kept under {what}; there are: {there}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DecodeError) as error:
        raise Misuse(f"{file} is not what `cbmdhi` keeps of something signed") from error


async def send(client: Client, request: Request) -> list[Receipt]:
    """Send it exactly as it was signed. The receipts are proven; raises as `submit_group` does."""
    if isinstance(request, SubmitRequest):
        told = await submit_group(client.connection, request.group, request.contents)
        return [entry.receipt for entry in told]
    if isinstance(request, RegisterRequest):
        return [await client.registration.send_registration(request)]
    return [(await client.registration.send_review(request)).receipt]


def commands_of(request: Message) -> Sequence[pb.SignedCommand]:
    """The signed commands in a request."""
    if isinstance(request, SubmitRequest | IngestItem):
        return request.group.commands
    if isinstance(request, RegisterRequest | ReviewRequest):
        return [request.command]
    return [request] if isinstance(request, pb.SignedCommand) else []


def _named(signed: pb.SignedCommand) -> Signed:
    header, (name, body) = command.parse(signed)[0], command.body_of(signed)
    present: dict[str, Any] = {field.name: value for field, value in body.ListFields()}
    ids = {name: str(present[name]) for name in _IDS if name in present}
    look = tuple(word.format(patient=present.get("patient", "")) for word in _LOOK.get(name, ()))
    return Signed(name, {**ids, "command_id": header.command_id}, look or ("verify", header.command_id))


def _to_submit(request: Message) -> Request | None:
    if isinstance(request, IngestItem):
        return SubmitRequest(group=request.group, contents=request.contents)
    return request if isinstance(request, SubmitRequest | RegisterRequest | ReviewRequest) else None


def _folder(wallet: Path) -> Path:
    return wallet / "unsure"


def _write(wallet: Path, command_id: str, request: Request) -> str:
    folder = _folder(wallet)
    folder.mkdir(mode=0o700, exist_ok=True)
    document = {
        "version": 1,
        "kind": request.DESCRIPTOR.full_name,
        "request": base64.b64encode(request.SerializeToString()).decode(),
    }
    beside = folder / f"{command_id}.new"
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file)
    beside.replace(folder / f"{command_id}.json")
    return command_id
