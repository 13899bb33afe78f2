"""What a gateway's REST interface answers, read without a belief in its form.

What cannot be read is a MeshError whose cause is NotAnAnswer: nobody knows what became of what was asked.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, cast

from cbmdhi.client.tokens import Issued
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import ids, json_text

_OUTCOME = "Cbmdhi-Outcome"
_PLACE = re.compile(r"/fhir/[A-Za-z]{1,64}/([0-9a-f-]{36})/_history/([1-9][0-9]{0,8})\Z")
_TRANSACTION = re.compile(r"[0-9a-f]{64}")
_BLOCK = re.compile(r"[0-9]{1,18}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_LONGEST_TOKEN_SECONDS = 24 * 3600
_BUSY = {429: code_pb2.CODE_RESOURCE_EXHAUSTED}


class NotAnAnswer(Exception):
    """What came is none of the answers that there are."""


@dataclass(frozen=True)
class Stored:
    """A version of a record that the members' peers hold, under a delegation of the wallet's, and where
    `cbmdhi verify` finds it. Its block is the gateway's word; so is, until it is read, what it contains: the
    gateway's device sealed it.
    """

    record_id: str
    version: int
    tx_id: str
    command_id: str
    block: int


@dataclass(frozen=True)
class Challenge:
    """What a login signs, and the device of the gateway's member that a delegation is made out to."""

    text: str
    raw: bytes
    device: str


def read(status: int, headers: Mapping[str, str], raw: bytes) -> Any:
    """The JSON of an answer, None when it is empty. Raises MeshError: what the gateway refuses with, too."""
    if 300 <= status < 400:
        # Whatever is secret would go to whoever is named, also in clear text.
        _unreadable(
            "sends the request elsewhere, which is not followed: it is asked where the consortium says"
        )
    try:
        answer = json_text.parse(raw) if raw else None
    except json_text.NotJson as error:
        _unreadable(f"gave an answer that {error}", status)
    if status >= 400:
        raise _refusal(status, headers, answer)
    return answer


def document(answer: Any) -> dict[str, Any]:
    """The JSON object that an answer has to be. Raises MeshError."""
    if not isinstance(answer, dict):
        _unreadable("gave an answer that is no JSON object")
    return cast("dict[str, Any]", answer)


def challenge(answer: Any) -> Challenge:
    """Of `POST /v1/session/challenge`. Raises MeshError."""
    members = document(answer)
    text, device = members.get("challenge"), members.get("device")
    raw = _unbase64(text) if isinstance(text, str) else b""
    if (
        not isinstance(text, str)
        or not raw
        or not isinstance(device, str)
        or not addresses.is_address(device)
    ):
        _unreadable("gave no challenge with its device's address")
    return Challenge(text, raw, device)


def issued(answer: Any) -> Issued:
    """Of `POST /v1/session`: the token, and for how long it is good. Raises MeshError."""
    members = document(answer)
    token, seconds = members.get("token"), cast("Any", members.get("expires_in"))
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        _unreadable("gave no token at the login")
    is_number = isinstance(seconds, int | float | Decimal) and not isinstance(seconds, bool)
    good = float(seconds) if is_number and math.isfinite(seconds) else 0.0
    # One that has as good as ended would be fetched again for each request.
    if not 1 <= good <= _LONGEST_TOKEN_SECONDS:
        _unreadable("gave a token at the login without a time for which it is good")
    return Issued(token, good)


def stored(headers: Mapping[str, str]) -> Stored:
    """The receipt of a write, in its headers. Raises MeshError."""
    place = _PLACE.search(headers.get("Location", ""))
    tx_id = headers.get("Cbmdhi-Transaction", "")
    command_id = headers.get("Cbmdhi-Command", "")
    block = headers.get("Cbmdhi-Block", "")
    if place is None or not ids.is_uuid7(place[1]):
        _unreadable("says that it is written, but not where")
    if not _TRANSACTION.fullmatch(tx_id) or not ids.is_command_id(command_id) or not _BLOCK.fullmatch(block):
        _unreadable("says that it is written, without a receipt")
    return Stored(place[1], int(place[2]), tx_id, command_id, int(block))


def _refusal(status: int, headers: Mapping[str, str], answer: Any) -> MeshError:
    """From an OperationOutcome, or the plain JSON of the session routes, and what is said to be certain."""
    members = _members(answer)
    name, reason = members.get("code"), members.get("reason")
    if members.get("resourceType") == "OperationOutcome":
        issues = members.get("issue")
        issue = _members(cast("list[object]", issues)[0] if isinstance(issues, list) and issues else None)
        name, reason = _members(issue.get("details")).get("text"), issue.get("diagnostics")
    known = f"CODE_{str(name).removeprefix('CODE_')}"
    code = code_pb2.Code.Value(known) if known in code_pb2.Code.keys() else code_pb2.CODE_OK  # noqa: SIM118
    if not isinstance(reason, str | None) or code in (code_pb2.CODE_OK, code_pb2.CODE_UNSPECIFIED):
        _unreadable(
            f"refuses with status {status}, and does not say why as a gateway of the mesh does", status
        )
    certain = f"OUTCOME_{headers.get(_OUTCOME, '')}"
    return MeshError(
        code,
        reason or "the gateway gave no reason",
        outcome=code_pb2.Outcome.Value(certain) if certain in code_pb2.Outcome.keys() else 0,  # noqa: SIM118
    )


def _members(value: Any) -> dict[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _unreadable(what: str, status: int = 0) -> NoReturn:
    code = code_pb2.CODE_UNAVAILABLE if status >= 500 else _BUSY.get(status, code_pb2.CODE_INTEGRITY)
    raise MeshError(code, f"the gateway, or what is in front of it, {what}") from (NotAnAnswer())


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
