"""Groups of signed commands: their form, their times, their signatures. What chaincode would refuse for
any of these is refused here first, so that it is never stored; chaincode decides all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import (
    Command,
    CommandBody,
    CommandGroup,
    Delegation,
    PutRecord,
    RegisterIdentity,
    Role,
    SignedCommand,
)
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import categories, command, enrolment, ids, signature, standing, words
from cbmdhi.protocol.channel import Channel
from services.runtime.refusal import Refused

MAX_CLOCK_AHEAD_MS = 2 * 60 * 1000
_MAX_LIFETIME_MS = command.MAX_LIFETIME_SECONDS * 1000
_LEAST_LIFE_MS = 10_000
_MAX_SIGNATURE_BYTES = 72
_SHA256_BYTES = 32
_TYPE_TAG_BYTES = (0, 16)

Key = tuple[str, str]
"""Signer and command id: what makes a command the same command."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A signed command and what it says.

    name          of the body's field, such as `put_record`; None for one that this version does not know
    put           the body, when it adds a version of a record
    registration  the body, when it registers the key that signs it
    takes_away    whether all it does is to take consent away
    """

    signed: SignedCommand
    header: Command
    name: str | None
    put: PutRecord | None
    registration: RegisterIdentity | None
    takes_away: bool = False

    @classmethod
    def of(cls, signed: SignedCommand, header: Command, body: CommandBody) -> Parsed:
        """With what is asked for most taken out once."""
        name = body.WhichOneof("body")
        put = body.put_record if name == "put_record" else None
        registration = body.register_identity if name == "register_identity" else None
        return cls(signed, header, name, put, registration, standing.only_takes_away(body))

    @property
    def key(self) -> Key:
        """What makes it the same command."""
        return self.signed.signer, self.header.command_id


def parse(group: CommandGroup) -> tuple[Parsed, ...]:
    """The commands of a group. Raises Refused without an index: nothing can be said of one command yet."""
    if not 1 <= len(group.commands) <= command.MAX_GROUP_OF_RECORDS:
        raise _too_many()
    parsed: list[Parsed] = []
    for index, signed in enumerate(group.commands):
        path = f"group.commands[{index}]"
        try:
            header, body = command.parse(signed)
        except command.MalformedCommand as error:
            raise invalid("the bytes are not a serialized Command", f"{path}.command") from error
        _check_exact(signed, header, body, path)
        if body.HasField("emergency_access"):
            # Storage carries what it opened. Of what nobody opened no patient is told, no reviewer asked.
            raise invalid(
                "an emergency is put on record by who opened it: ask to read in an emergency",
                f"{path}.command.body",
            )
        if not ids.is_uuid7(header.command_id):
            raise invalid("not a UUIDv7 in canonical lower-case text", f"{path}.command_id")
        if not addresses.is_address(signed.signer):
            raise invalid("not an address: cb1 and 32 characters of base32", f"{path}.signer")
        parsed.append(Parsed.of(signed, header, body))
    if len(parsed) > command.most_commands(all(one.put is not None for one in parsed)):
        raise _too_many()
    return tuple(parsed)


def _too_many() -> Refused:
    return invalid(
        f"a group has 1 to {command.MAX_GROUP} commands, or 1 to {command.MAX_GROUP_OF_RECORDS} when all of "
        "them put records",
        "group.commands",
    )


def _check_exact(signed: SignedCommand, header: Command, body: CommandBody, path: str) -> None:
    try:
        words.check_command(signed, header, body, f"{path}.command", f"{path}.command.body")
    except words.NotAWord as error:
        raise invalid(str(error), error.path) from error


def check_form(commands: tuple[Parsed, ...], channel: Channel, members: Collection[str]) -> None:
    """Channel and bodies. Raises Refused with the index of the command to blame.

    members  MSP ids of the channel's
    """
    for index, parsed in enumerate(commands):
        if parsed.header.channel != channel.name:
            raise Refused(
                code_pb2.CODE_WRONG_CHANNEL,
                "signed for another channel: sign it for the one that your consortium file names",
                "channel",
            ).at(index)
        if parsed.header.genesis_sha256 != channel.genesis_sha256:
            raise Refused(
                code_pb2.CODE_WRONG_CHANNEL,
                "signed for a channel of this name that began otherwise: sign it with the genesis hash of "
                "your consortium file",
                "genesis_sha256",
            ).at(index)
        if parsed.name is None:
            raise invalid("the command has no body that this version knows", "body", index)
        if not 0 < len(parsed.signed.signature) <= _MAX_SIGNATURE_BYTES:
            raise _bad_signature(index)
        if parsed.header.delegation_sha256 != _delegation_sha256(parsed.signed):
            raise invalid(
                "the command names another delegation than the one beside it", "delegation_sha256", index
            )
        if (put := parsed.put) is not None:
            _check_put(put, index)
        else:
            check_words(CommandBody.FromString(parsed.header.body), "body", members, index)
        if (registration := parsed.registration) is not None:
            _check_names_nobody(registration, index)


def check_times(parsed: Parsed, now_ms: int) -> None:
    """Lifetime and clock, by the chaincode's own limits. Raises Refused EXPIRED."""
    issued, expires = parsed.header.issued_at_ms, parsed.header.expires_at_ms
    if issued <= 0 or expires <= issued:
        raise expired("does not follow issued_at_ms", "expires_at_ms")
    if expires - issued > _MAX_LIFETIME_MS:
        raise expired("valid for longer than 10 minutes: sign a fresh command", "expires_at_ms")
    if issued > now_ms + MAX_CLOCK_AHEAD_MS:
        raise expired("more than 2 minutes in the future: check the signer's clock", "issued_at_ms")
    if expires <= now_ms:
        raise expired("expired: sign it anew with a fresh command_id", "expires_at_ms")


def ends_soon(parsed: Parsed, now_ms: int) -> bool:
    """True when it has ended, or will before it can be sealed and decided."""
    return parsed.header.expires_at_ms - now_ms < _LEAST_LIFE_MS


def check_life_left(parsed: Parsed, now_ms: int) -> None:
    """That there is time to seal what the command names, and to have it decided. Raises Refused.

    What is sealed and then decided too late lies for a quarter of an hour at every member that holds it.
    """
    if ends_soon(parsed, now_ms):
        raise Refused(
            code_pb2.CODE_DEADLINE_EXCEEDED,
            f"it expires within {_LEAST_LIFE_MS // 1000} seconds: sign it for longer",
            "expires_at_ms",
        )


def check_signature(parsed: Parsed, signer: IdentityDocument | None) -> None:
    """The signature, by the registered key; a registration's by the key that it registers. Raises Refused."""
    registration = parsed.registration
    if registration is not None:
        spki = registration.signing_public_key
    elif signer is None:
        raise Refused(
            code_pb2.CODE_UNKNOWN_SIGNER,
            "the signer is not registered on this channel: register first",
            "signer",
        )
    else:
        spki = signer.signing_public_key
    # The address is the hash of the key: whoever hands out the document cannot hand out another key.
    if addresses.of_spki(spki) != parsed.signed.signer:
        path = "signer" if registration is None else "body.register_identity.signing_public_key"
        raise invalid("the signer is not the address of this key", path)
    try:
        signature.verify(
            signature.load_public_key(spki), parsed.signed.signature, signature.COMMAND, parsed.signed.command
        )
    except (signature.BadSignature, ValueError) as error:
        raise _bad_signature() from error


def check_active(parsed: Parsed, signer: IdentityDocument | None) -> None:
    """Only an active identity acts; a registration is made before that, and a suspended patient still takes
    consent away. Raises Refused INACTIVE_SIGNER."""
    if parsed.registration is not None or standing.is_active(signer):
        return
    if not (parsed.takes_away and standing.may_take_away(signer)):
        raise Refused(
            code_pb2.CODE_INACTIVE_SIGNER,
            "the signer's identity is not active: wait for the review, or ask the home member",
            "signer",
        )


def check_proposer(parsed: Parsed, signer: IdentityDocument | None) -> None:
    """A policy is a text: nobody else's is carried than an administrator's. Raises Refused FORBIDDEN."""
    if parsed.name == "set_policy" and (signer is None or signer.role != Role.ROLE_ADMINISTRATOR):
        raise Refused(code_pb2.CODE_FORBIDDEN, "only a member's administrator votes on the policy", "signer")


def _delegation_sha256(signed: SignedCommand) -> bytes:
    """What the command says of the delegation beside it; empty in person."""
    if not signed.HasField("delegation"):
        return b""
    return hashlib.sha256(signed.delegation.delegation).digest()


def _check_put(put: PutRecord, index: int) -> None:
    for holds, field, reason in (
        (ids.is_uuid7(put.record_id), "record_id", "not a UUIDv7 in canonical lower-case text"),
        (put.version >= 1, "version", "versions begin at 1"),
        (addresses.is_address(put.patient), "patient", "not an address: cb1 and 32 characters of base32"),
        (put.category in categories.CATEGORIES, "category", "not a category of the closed list"),
        (len(put.content_commitment) == _SHA256_BYTES, "content_commitment", "not 32 bytes"),
        (len(put.type_tag) in _TYPE_TAG_BYTES, "type_tag", "neither empty nor 16 bytes"),
    ):
        if not holds:
            raise invalid(reason, f"body.put_record.{field}", index)


def check_words(
    message: CommandBody | Delegation, path: str, members: Collection[str], index: int | None = None
) -> None:
    """Words of closed lists alone: a name in the place of an address would be public. Raises Refused."""
    try:
        words.check(message, path, members)
    except words.NotAWord as error:
        raise invalid(str(error), error.path, index) from error


def _check_names_nobody(registration: RegisterIdentity, index: int) -> None:
    """Here, since what chaincode refuses may stand in a block beside what it accepts."""
    path = "body.register_identity.enrolment_certificate"
    try:
        enrolment.check_der(registration.enrolment_certificate, registration.address)
    except enrolment.NamesSomebody as error:
        raise invalid(f"{error}: enrol with a request that names the address alone", path, index) from error


def invalid(reason: str, path: str, index: int | None = None) -> Refused:
    """The refusal of what has not the form that it should have."""
    return Refused(code_pb2.CODE_INVALID, reason, path).at(index)


def expired(reason: str, path: str) -> Refused:
    """The refusal of what is outside its time."""
    return Refused(code_pb2.CODE_EXPIRED, reason, path)


def _bad_signature(index: int | None = None) -> Refused:
    return Refused(
        code_pb2.CODE_BAD_SIGNATURE,
        "the signature does not match the command and the signer's registered key, or its s is not low: "
        "sign it again",
        "signature",
    ).at(index)
