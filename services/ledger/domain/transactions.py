"""What the transactions of a block mean: rows of the projection, and the event that is published.

Everything is taken from what VALID transactions wrote, key by key: the values are the serialized
messages of cbmdhi/command/v1/state.proto.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from cbmdhi.command.v1 import state_pb2
from cbmdhi.ledger.v1 import events_pb2

M = TypeVar("M", bound=Message)

MAX_EVENT_BYTES = 700 << 10
"""A NATS server takes messages of 1 MiB: an event over this leaves in parts."""


class MalformedState(Exception):
    """A committed value is not the message that its key says: a fault of the chaincode."""


@dataclass(frozen=True)
class Change:
    """A state key and its new value; None: deleted."""

    key: str
    value: bytes | None


@dataclass(frozen=True)
class CommittedTransaction:
    """A VALID transaction of the chaincode."""

    tx_id: str
    block: int
    at_ms: int
    changes: tuple[Change, ...]


@dataclass
class Facts:
    """What a transaction wrote, by kind, in its order."""

    identities: list[state_pb2.IdentityDocument] = field(default_factory=list[state_pb2.IdentityDocument])
    records: list[state_pb2.RecordVersion] = field(default_factory=list[state_pb2.RecordVersion])
    entries: list[state_pb2.AuditEntry] = field(default_factory=list[state_pb2.AuditEntry])
    dropped_records: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])


def facts_of(transaction: CommittedTransaction) -> Facts:
    """Identities, records and audit entries that a transaction wrote. Raises MalformedState."""
    facts = Facts()
    for change in transaction.changes:
        prefix, _, rest = change.key.partition("/")
        if change.value is None:
            if prefix == "rec":
                facts.dropped_records.append(_record_key(rest))
            continue
        match prefix:
            case "id":
                facts.identities.append(_parse(state_pb2.IdentityDocument(), change.value))
            case "rec":
                facts.records.append(_parse(state_pb2.RecordVersion(), change.value))
            case "aud":
                facts.entries.append(_parse(state_pb2.AuditEntry(), change.value))
            case _:
                # Consents, members and policy are read from the peer's state; writer keys come with records.
                continue
    return facts


def events_of(
    channel: str, transaction: CommittedTransaction
) -> list[tuple[str, events_pb2.TransactionCommitted]]:
    """Message ids and messages: one with the transaction's id, more when it would be too large for one."""
    facts = facts_of(transaction)
    parts = [_event(channel, transaction)]
    size = 0
    for entry in facts.entries:
        parts, size = _room_for(entry, parts, size, channel, transaction)
        parts[-1].entries.append(entry)
    for identity in facts.identities:
        parts, size = _room_for(identity, parts, size, channel, transaction)
        parts[-1].identities.append(identity)
    names = [transaction.tx_id, *(f"{transaction.tx_id}.{number}" for number in range(1, len(parts)))]
    return list(zip(names, parts, strict=True))


def _event(channel: str, transaction: CommittedTransaction) -> events_pb2.TransactionCommitted:
    return events_pb2.TransactionCommitted(
        channel=channel, tx_id=transaction.tx_id, block=transaction.block, at_ms=transaction.at_ms
    )


def _room_for(
    message: Message,
    parts: list[events_pb2.TransactionCommitted],
    size: int,
    channel: str,
    transaction: CommittedTransaction,
) -> tuple[list[events_pb2.TransactionCommitted], int]:
    needed = message.ByteSize() + 8
    if size and size + needed > MAX_EVENT_BYTES:
        return [*parts, _event(channel, transaction)], needed
    return parts, size + needed


def _record_key(rest: str) -> tuple[str, int]:
    record_id, _, version = rest.partition("/")
    try:
        return record_id, int(version, 16)
    except ValueError as exc:
        raise MalformedState("a record's key has no version") from exc


def _parse(message: M, value: bytes) -> M:
    try:
        message.ParseFromString(value)
    except DecodeError as exc:
        raise MalformedState(f"a committed value is not a {message.DESCRIPTOR.name}") from exc
    return message
