"""What the transactions of a block mean: rows of the projection, and the event that is published.

Everything is taken from what VALID transactions wrote, key by key: the values are the serialized
messages of cbmdhi/command/v1/state.proto.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from cbmdhi.command.v1 import state_pb2
from cbmdhi.ledger.v1 import events_pb2
from cbmdhi.protocol import state_keys

M = TypeVar("M", bound=Message)


class MalformedState(Exception):
    """A committed value is not the message that its key says: a fault of the chaincode."""


class Change(NamedTuple):
    """A state key and its new value; None: deleted."""

    key: str
    value: bytes | None


class Written(NamedTuple, Generic[M]):
    """A message and the bytes that are committed."""

    message: M
    value: bytes


@dataclass
class Facts:
    """What a transaction wrote, by kind, in its order."""

    identities: list[Written[state_pb2.IdentityDocument]] = field(
        default_factory=list[Written[state_pb2.IdentityDocument]]
    )
    records: list[Written[state_pb2.RecordVersion]] = field(
        default_factory=list[Written[state_pb2.RecordVersion]]
    )
    entries: list[Written[state_pb2.AuditEntry]] = field(default_factory=list[Written[state_pb2.AuditEntry]])
    dropped_records: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    newest_epoch: int = 0
    """The channel's epoch, if the transaction began one."""


def facts_of(changes: Iterable[Change]) -> Facts:
    """What a transaction changed, by kind. Raises MalformedState."""
    facts = Facts()
    for key, value in changes:
        kind = state_keys.kind_of(key)
        if value is None:
            if kind == state_keys.RECORD:
                facts.dropped_records.append(_record_of(key))
            continue
        match kind:
            case state_keys.IDENTITY:
                facts.identities.append(_parse(state_pb2.IdentityDocument(), value))
            case state_keys.RECORD:
                facts.records.append(_parse(state_pb2.RecordVersion(), value))
            case state_keys.AUDIT:
                facts.entries.append(_parse(state_pb2.AuditEntry(), value))
            case state_keys.EPOCH:
                facts.newest_epoch = max(facts.newest_epoch, _parse(state_pb2.Epoch(), value).message.number)
            case _:
                # Consents, members and policy are read from the peer's state; writer keys come with records.
                continue
    return facts


@dataclass(frozen=True)
class CommittedTransaction:
    """A VALID transaction of the chaincode."""

    tx_id: str
    block: int
    at_ms: int
    facts: Facts


def event_of(channel: str, transaction: CommittedTransaction) -> bytes:
    """A serialized TransactionCommitted that says no more than that there is one."""
    return _head(channel, transaction).SerializeToString()


def told(channel: str, transaction: CommittedTransaction) -> events_pb2.TransactionCommitted:
    """The same with the entries and identities that were committed."""
    facts = transaction.facts
    whole = _head(channel, transaction)
    whole.entries.extend(entry.message for entry in facts.entries)
    whole.identities.extend(identity.message for identity in facts.identities)
    return whole


def _head(channel: str, transaction: CommittedTransaction) -> events_pb2.TransactionCommitted:
    return events_pb2.TransactionCommitted(
        channel=channel, tx_id=transaction.tx_id, block=transaction.block, at_ms=transaction.at_ms
    )


def _record_of(key: str) -> tuple[str, int]:
    try:
        return state_keys.record_of(key)
    except ValueError as exc:
        raise MalformedState("a record's key has no version") from exc


def _parse(message: M, value: bytes) -> Written[M]:
    try:
        message.ParseFromString(value)
    except DecodeError as exc:
        raise MalformedState(f"a committed value is not a {message.DESCRIPTOR.name}") from exc
    return Written(message, value)
