"""Who means a signed command: the signer, or the person whose delegation a device acts within.

For whoever would rather check than believe: both signatures, each by a key whose hash is the address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from cbmdhi.command.v1.command_pb2 import Delegation, SignedCommand
from cbmdhi.protocol import address, command, signature


class NotMeant(Exception):
    """Nobody can be shown to mean the command."""


@dataclass(frozen=True, slots=True)
class Authorship:
    """author: who means it. signed_by: who signed it, the author or a device of the author's choice."""

    author: str
    signed_by: str

    @property
    def in_person(self) -> bool:
        """True when no device stands between."""
        return self.author == self.signed_by


def claimed(signed: SignedCommand) -> Authorship:
    """Who would mean it, if its signatures hold: tells whose keys `check` needs. Raises NotMeant."""
    if not signed.HasField("delegation"):
        return Authorship(signed.signer, signed.signer)
    return Authorship(_delegation(signed).delegator, signed.signer)


def check(
    signed: SignedCommand, keys: Mapping[str, bytes], delegations: set[bytes] | None = None
) -> Authorship:
    """Check every signature. Raises NotMeant.

    keys         DER SubjectPublicKeyInfo by address, of those whom `claimed` names, whoever gave them
    delegations  of which the signature was checked before: theirs is not checked again. Added to

    Whether the delegation covered the command at its time is the channel's verdict.
    """
    who = claimed(signed)
    spki = _key_of(who.signed_by, keys)
    try:
        command.verify(signed, spki)
        header, _ = command.parse(signed)
    except (signature.BadSignature, command.MalformedCommand, ValueError) as error:
        raise NotMeant("the signature does not fit the command and its signer's key") from error
    named = hashlib.sha256(signed.delegation.delegation).digest() if signed.HasField("delegation") else b""
    if header.delegation_sha256 != named:
        raise NotMeant("the command was signed within another delegation than the one beside it")
    if not signed.HasField("delegation"):
        return who
    delegation = _delegation(signed)
    if delegation.delegate != who.signed_by:
        raise NotMeant("the delegation lets another device act")
    if (delegation.channel, delegation.genesis_sha256) != (header.channel, header.genesis_sha256):
        raise NotMeant("the delegation is for another channel")
    known = set[bytes]() if delegations is None else delegations
    whole = hashlib.sha256(signed.delegation.SerializeToString(deterministic=True)).digest()
    if whole in known:
        return who
    try:
        key = signature.load_public_key(_key_of(who.author, keys))
        signature.verify(key, signed.delegation.signature, signature.DELEGATION, signed.delegation.delegation)
    except (signature.BadSignature, ValueError) as error:
        raise NotMeant("the signature does not fit the delegation and its delegator's key") from error
    known.add(whole)
    return who


def _key_of(who: str, keys: Mapping[str, bytes]) -> bytes:
    spki = keys.get(who, b"")
    if address.of_spki(spki) != who:
        raise NotMeant(f"the key given for {who} is not the one of that address")
    return spki


def _delegation(signed: SignedCommand) -> Delegation:
    try:
        return Delegation.FromString(signed.delegation.delegation)
    except DecodeError as error:
        raise NotMeant("the delegation cannot be read") from error
