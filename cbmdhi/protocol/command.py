"""Commands: made and signed by whoever means them, carried by everybody else as they are."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError, Message

from cbmdhi.command.v1.command_pb2 import (
    Command,
    CommandBody,
    CommandGroup,
    EmergencyAccess,
    GroupMembership,
    PutRecord,
    SignedCommand,
    SignedDelegation,
)
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.ids import emergency_id, uuid7

MAX_LIFETIME_SECONDS = 600
MAX_EMERGENCY_LIFETIME_SECONDS = 30 * 86_400
MAX_GROUP = 16
"""Commands of a group, of any kind."""
MAX_GROUP_OF_RECORDS = 128
"""Of a group of PutRecords alone, as a FHIR transaction is one."""
_GROUP_LABEL = b"cbmdhi/group/v2\x00"
_FIELDS: dict[str, str] = {
    field.message_type.name: field.name for field in CommandBody.DESCRIPTOR.fields if field.message_type
}


class MalformedCommand(Exception):
    """The bytes are not a command."""


class Signer(Protocol):
    """Who can mean something: a wallet, an engine's key, a device inside a delegation."""

    @property
    def address(self) -> str:
        """The signer's address."""
        ...

    @property
    def delegation(self) -> SignedDelegation | None:
        """Within which the signer acts for somebody else; None in person."""
        ...

    def sign_command(self, raw: bytes) -> SignedCommand:
        """Sign a serialized command."""
        ...


@dataclass(frozen=True)
class KeySigner:
    """A signer that holds its key in memory, and a delegation when it acts for somebody."""

    private_key: ec.EllipticCurvePrivateKey
    delegation: SignedDelegation | None = None

    @property
    def address(self) -> str:
        """The address of the key."""
        return addresses.of_public_key(self.private_key.public_key())

    def sign_command(self, raw: bytes) -> SignedCommand:
        """Sign a serialized command with the key."""
        return SignedCommand(
            command=raw,
            signature=signature.sign(self.private_key, signature.COMMAND, raw),
            signer=self.address,
            delegation=self.delegation,
        )

    def sign(self, label: str, *parts: bytes) -> bytes:
        """Sign something else than a command, under its label."""
        return signature.sign(self.private_key, label, *parts)


def body_bytes(body: Message) -> bytes:
    """A body, such as PutRecord, as the bytes that go into a command."""
    wrapped = CommandBody()
    getattr(wrapped, _FIELDS[body.DESCRIPTOR.name]).CopyFrom(body)
    return wrapped.SerializeToString(deterministic=True)


def make(
    body: Message,
    *,
    channel: Channel,
    lifetime_seconds: int = 300,
    group: GroupMembership | None = None,
    now_ms: int | None = None,
    command_id: str | None = None,
    delegation: SignedDelegation | None = None,
) -> bytes:
    """A serialized command that means `body`, to be signed. Valid from now for `lifetime_seconds`.

    A device that signs for somebody names the delegation here, and carries it beside the command.
    """
    issued = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return Command(
        command_id=command_id or uuid7(),
        channel=channel.name,
        issued_at_ms=issued,
        expires_at_ms=issued + lifetime_seconds * 1000,
        group=group,
        body=body_bytes(body),
        delegation_sha256=hashlib.sha256(delegation.delegation).digest() if delegation else b"",
        genesis_sha256=channel.genesis_sha256,
    ).SerializeToString(deterministic=True)


def make_emergency(
    body: EmergencyAccess,
    signer: str,
    *,
    channel: Channel,
    lifetime_seconds: int = MAX_EMERGENCY_LIFETIME_SECONDS,
    now_ms: int | None = None,
) -> bytes:
    """As `make`, of what is to be opened without a majority: its id follows from the rest and from the
    signer's address, so that nothing else can stand in its place when it is put on record.
    """
    header = Command.FromString(make(body, channel=channel, lifetime_seconds=lifetime_seconds, now_ms=now_ms))
    header.ClearField("command_id")
    header.command_id = emergency_id(signer, header.SerializeToString(deterministic=True))
    return header.SerializeToString(deterministic=True)


def make_group(
    meant: Sequence[tuple[Signer, Message]],
    *,
    channel: Channel,
    lifetime_seconds: int = 300,
    now_ms: int | None = None,
) -> CommandGroup:
    """A group of bodies, each with its signer, that takes effect as a whole or not at all."""
    if not 1 <= len(meant) <= most_commands(all(isinstance(body, PutRecord) for _, body in meant)):
        raise ValueError(
            f"a group has 1 to {MAX_GROUP} commands, or {MAX_GROUP_OF_RECORDS} records, not {len(meant)}"
        )
    digest = members_sha256([(body_bytes(body), signer.address) for signer, body in meant])
    group_id = uuid7()
    commands: list[SignedCommand] = []
    for index, (signer, body) in enumerate(meant):
        membership = GroupMembership(group_id=group_id, size=len(meant), index=index, members_sha256=digest)
        command = make(
            body,
            channel=channel,
            lifetime_seconds=lifetime_seconds,
            group=membership if len(meant) > 1 else None,
            now_ms=now_ms,
            delegation=signer.delegation,
        )
        commands.append(signer.sign_command(command))
    return CommandGroup(commands=commands)


def most_commands(puts_records_alone: bool) -> int:
    """How many commands a group has at most."""
    return MAX_GROUP_OF_RECORDS if puts_records_alone else MAX_GROUP


def members_sha256(members: Sequence[tuple[bytes, str]]) -> bytes:
    """What binds the commands of a group together, from the body and the signer's address of each:
    SHA-256(label || SHA-256(body) || SHA-256(address) || …)."""
    digest = hashlib.sha256(_GROUP_LABEL)
    for body, signer in members:
        digest.update(hashlib.sha256(body).digest())
        digest.update(hashlib.sha256(signer.encode()).digest())
    return digest.digest()


def parse(signed: SignedCommand) -> tuple[Command, CommandBody]:
    """Header and body of a signed command; the signature is not checked. Raises MalformedCommand."""
    try:
        command = Command.FromString(signed.command)
        return command, CommandBody.FromString(command.body)
    except DecodeError as error:
        raise MalformedCommand("the bytes are not a serialized Command") from error


def body_of(signed: SignedCommand) -> tuple[str, Message]:
    """Name of the body (`put_record`) and the body itself. Raises MalformedCommand."""
    _, body = parse(signed)
    name = body.WhichOneof("body")
    if name is None:
        raise MalformedCommand("the command has no body that this version knows")
    return name, getattr(body, name)


def verify(signed: SignedCommand, spki_der: bytes) -> None:
    """Check the signature with the signer's registered key. Raises signature.BadSignature."""
    key = signature.load_public_key(spki_der)
    signature.verify(key, signed.signature, signature.COMMAND, signed.command)


def sha256(signed: SignedCommand) -> bytes:
    """What the audit entry keeps of a command: SHA-256 of its bytes."""
    return hashlib.sha256(signed.command).digest()
