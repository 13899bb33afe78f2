"""What the texts of a signed message may be: addresses, ids and codes of closed lists, and never free text.

The chaincode refuses the rest, but too late: what it refuses lies in the block for ever, at every member, as
it was sent. A name in the place of an address would be a name on the channel. So whoever carries looks first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cache
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from cbmdhi.command.v1.command_pb2 import Command, CommandBody, SignedCommand
from cbmdhi.protocol import address, categories, cid, ids

_MSP = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
ACTIONS = frozenset({"read", "search", "history", "export", "event", "write"})
REJECTIONS = ("document-mismatch", "duplicate", "other")
SUSPENSIONS = ("lost-key", "left", "misuse", "other")
_REVIEWS = frozenset({"identity-verified", *REJECTIONS, "withdrawn"})
_REASONS = _REVIEWS | {*SUSPENSIONS, "reinstated"}


def _is_cid(text: str) -> bool:
    try:
        cid.to_bytes(text)
    except ValueError:
        return False
    return True


_Rule = tuple[Callable[[str], object], str]
_ADDRESS: Final[_Rule] = (address.is_address, "not an address: cb1 and 32 characters of base32")
_ID: Final[_Rule] = (ids.is_uuid7, "not a UUIDv7 in canonical lower-case text")
_MEMBER: Final[_Rule] = (_MSP.fullmatch, "not an MSP id")
_ACTION: Final[_Rule] = (ACTIONS.__contains__, "not an action of the closed list")
_CATEGORY: Final[_Rule] = (categories.CATEGORIES.__contains__, "not a category of the closed list")
_PURPOSE: Final[_Rule] = (categories.PURPOSES.__contains__, "not a purpose of use of the closed list")
_REASON: Final[_Rule] = (_REASONS.__contains__, "not a reason of the closed list")

RULES: Final[dict[str, _Rule | None]] = {
    **dict.fromkeys(
        ("address", "clinician", "delegate", "delegator", "patient", "patients", "reviewer"), _ADDRESS
    ),
    **dict.fromkeys(
        (
            "consent_id",
            "delegation_id",
            "follows",
            "record_id",
            "record_ids",
            "registration_id",
        ),
        _ID,
    ),
    "break_glass_id": (ids.is_command_id, "not a UUIDv7 in canonical lower-case text, nor an emergency's id"),
    **dict.fromkeys(("home_msp", "msp"), _MEMBER),
    **dict.fromkeys(("action", "actions"), _ACTION),
    **dict.fromkeys(("categories", "category"), _CATEGORY),
    **dict.fromkeys(("purpose", "purposes"), _PURPOSE),
    "reason_code": _REASON,
    "evidence_cid": (_is_cid, "not a CIDv1 in lower-case base32"),
    # Compared with the one channel that there is, by whoever carries.
    "channel": None,
    # The members' policy is a text, parsed before anybody votes for it.
    "cedar": None,
}
"""By a text's name, what it may be when it is not empty; None: not looked at here."""

BYTES: Final[dict[str, int]] = {
    "content_commitment": 32,
    "hpke_public_key": 1216,
    "sealed": 1200,
    "sealed_key_sha256": 32,
}
"""How many bytes of that name there are: a reason that nobody has sealed is a diagnosis on the channel."""


class NotAWord(Exception):
    """A text that is none of those. `path` says where; the text itself is repeated nowhere."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.path = path


def check_known(message: Message, path: str) -> None:
    """That nothing rides along in a message that this version does not know. Raises NotAWord.

    What is not known is taken out on the way.
    """
    there = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != there:
        raise _more_than_said(path)


def check_exact(serialized: bytes, message: Message, path: str) -> None:
    """That signed bytes hold what the message says, and nothing else. Raises NotAWord.

    Of a field that is there twice the last counts, so that the first could be a name: the bytes are those of
    the message, in whichever order. Their number alone tells nothing, since an encoder may write a number in
    fewer bytes than others, and so make room.
    """
    check_known(message, path)
    own = message.SerializeToString(deterministic=True)
    if serialized != own and sorted(serialized) != sorted(own):
        raise _more_than_said(path)


def check_command(
    signed: SignedCommand, header: Command, body: CommandBody, path: str, body_path: str
) -> None:
    """That a signed command holds what its parsed header and body say, and nothing else. Raises NotAWord."""
    check_known(signed, path)
    check_exact(signed.command, header, path)
    check_exact(header.body, body, body_path)


def _more_than_said(path: str) -> NotAWord:
    return NotAWord("holds what this version does not know, or a field twice: serialize it anew", path)


def check(message: Message, path: str, members: Collection[str]) -> None:
    """Look at every text of a message and of those in it. Raises NotAWord for the first that may not be.

    members  MSP ids of the channel's: what is only spelt like one may be a person's name
    """
    spoken = _spoken(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if field.name not in spoken:
            continue
        here = f"{path}.{field.name}"
        if isinstance(value, str | bytes | Message):
            _check_one(field.name, value, here, members)
            continue
        for index, one in enumerate(value):
            _check_one(field.name, one, f"{here}[{index}]", members)


def _check_one(name: str, value: Message | str | bytes, path: str, members: Collection[str]) -> None:
    if isinstance(value, Message):
        check(value, path, members)
    elif isinstance(value, bytes):
        if len(value) != BYTES[name]:
            raise NotAWord(f"not {BYTES[name]} bytes", path)
    elif value and (rule := RULES[name]) is not None:
        if not rule[0](value):
            raise NotAWord(rule[1], path)
        if rule is _MEMBER and value not in members:
            raise NotAWord("not a member of this channel", path)


def check_frame(signed: SignedCommand, header: Command) -> None:
    """Look at the texts around the body of a command that is sent alone and in person. Raises NotAWord."""
    if not ids.is_uuid7(header.command_id):
        raise NotAWord(_ID[1], "command_id")
    if header.HasField("group"):
        raise NotAWord("the command belongs to a group of two or more: send the whole group", "group")
    if signed.HasField("delegation") or header.delegation_sha256:
        raise NotAWord("this is signed in person, not by a device", "delegation")


@cache
def _spoken(descriptor: Descriptor) -> frozenset[str]:
    """Names of the fields that are a text or may hold one, and of bytes of which it is known how many."""
    kinds = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
    return frozenset(field.name for field in descriptor.fields if field.type in kinds or field.name in BYTES)
