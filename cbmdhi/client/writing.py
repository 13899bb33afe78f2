"""Records: written with a signed commitment, over a stream or in a group with something else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from cbmdhi.client import tracing
from cbmdhi.client.commands import submit_group
from cbmdhi.client.connection import Connection, check_size, connected
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse, from_rpc, of_detail, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import categories, command, envelope, ids, json_text
from cbmdhi.protocol import resource as resources
from cbmdhi.protocol.ids import uuid7
from cbmdhi.sending import Attempts

_log = logging.getLogger("cbmdhi.client")

_RESENDS = 5
_MOST_TOGETHER = 100
_MESSAGE_BYTES = 1 << 20
_SLOWED = {
    gateway_pb2.SLOWED_REASON_REFUSALS: "too many submissions were refused",
    gateway_pb2.SLOWED_REASON_CALLER_IS_FULL: "as much is under way as one caller may have",
    gateway_pb2.SLOWED_REASON_GATEWAY_IS_FULL: "its memory is full",
}
# The stream broke, or its token ended: what has no result yet is sent again, under the same ids.
_RESENT = (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_UNAUTHENTICATED)


@dataclass(frozen=True)
class NewRecord:
    """A version of a record, to be written. `content` is a FHIR R4 resource as JSON."""

    patient: str
    content: bytes = field(repr=False)
    record_id: str = field(default_factory=uuid7)
    version: int = 1

    @classmethod
    def of(
        cls,
        patient: str,
        resource: bytes | str | Mapping[str, Any],
        record_id: str = "",
        version: int = 1,
    ) -> NewRecord:
        """A record of a resource as JSON, or as a dictionary. Raises Misuse for what is no such thing.

        resource   JSON stays as it is, to the byte, but for what it may not say as this record: another id,
                   or another version in its `meta`. A document or message (a Bundle) stays whole. In a
                   dictionary a decimal is a Decimal, written with its digits
        record_id  of a record that is there, or to be there under this id: an `id` in the resource has to be
                   the same. Empty: a new one, which takes the place of the resource's
        """
        is_text = isinstance(resource, bytes | str)
        try:
            content = _as_bytes(resource)
            found = json_text.parse_object(content)
            own = found.get("id")
            if resources.is_kept_whole(found):
                takes_own = isinstance(own, str) and ids.is_uuid7(own)
                return cls(patient, content, record_id or (str(own) if takes_own else uuid7()), version)
            # What names another record than the one that is given is refused, not mended.
            its_id = str(own) if record_id and own is not None else record_id or uuid7()
            text = resources.as_record(content.decode(), its_id, version, by_server=not is_text)
        except json_text.NotJson as error:
            raise Misuse(f"the resource {error}") from error
        return cls(patient, text.encode(), record_id or its_id, version)


def _as_bytes(resource: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(resource, bytes):
        return resource
    return json_text.encode(resource) if isinstance(resource, str) else json_text.dump(resource)


@dataclass(frozen=True)
class Prepared:
    """A signed record with its content: sent again as it is, it has no second effect."""

    record: NewRecord
    item: gateway_pb2.IngestItem


@dataclass(frozen=True)
class Written:
    """What became of a record, as the gateway says."""

    record: NewRecord
    receipt: gateway_pb2.RecordReceipt
    error: MeshError | None = None

    @property
    def ok(self) -> bool:
        """True when it is committed."""
        return self.error is None and self.receipt.receipt.code == code_pb2.CODE_OK


class Writes:
    """Sign, send, send again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wallet = connection.wallet

    def prepare(self, record: NewRecord, lifetime_seconds: int = 300) -> Prepared:
        """Sign a record: the commitment over a new salt goes into the command, the salt with the content.

        Raises MeshError INVALID for a content that says that it is another record's or another patient's.
        """
        body, content = put_record(record)
        group = command.make_group(
            [(self._wallet, body)],
            channel=self._wallet.consortium.signed_channel,
            lifetime_seconds=lifetime_seconds,
        )
        item = gateway_pb2.IngestItem(
            submission_id=record.record_id,
            group=group,
            contents=[content],
            traceparent=tracing.headers().get("traceparent", ""),
        )
        return Prepared(record, item)

    async def put(self, records: Iterable[NewRecord]) -> list[Written]:
        """Write records over one stream; each has its own result, in the order given.

        The receipts are the gateway's word: `cbmdhi.verify.verify_receipts` checks many of them afterwards.
        """
        prepared: list[Prepared] = []
        written: list[Written] = []
        for record in records:
            try:
                prepared.append(self.prepare(record))
                written.append(Written(record, gateway_pb2.RecordReceipt()))
            except MeshError as error:
                written.append(Written(record, gateway_pb2.RecordReceipt(), error))
        results = {sent.record.record_id: sent async for sent in self.send(prepared)}
        return [one if one.error else results[one.record.record_id] for one in written]

    async def send(self, prepared: Sequence[Prepared]) -> AsyncIterator[Written]:
        """Send prepared records; results come in the order in which they are ready.

        A stream that breaks is opened again and everything without a result is sent again, under the
        same ids: nothing doubles. When that is of no use, raises NotSent (nothing has left) or UnknownOutcome
        with what has no result, signed as it is.
        """
        left: dict[str, Prepared] = {}
        for entry in prepared:
            try:
                check_size(entry.item)
                left[entry.item.submission_id] = entry
            except MeshError as error:
                yield Written(entry.record, gateway_pb2.RecordReceipt(), error)
        breaks, attempts = 0, Attempts()
        while left:
            try:
                await connected(self._connection.authenticated, self._connection.deadline_seconds)
                async for result in self._stream(list(left.values())):
                    entry = left.pop(result.submission_id, None)
                    if entry is not None:
                        yield _written(entry, result, is_first=attempts.nothing_done)
            except (grpc.aio.AioRpcError, MeshError) as error:
                ours, breaks = error if isinstance(error, MeshError) else from_rpc(error), breaks + 1
                ours.outcome = attempts.failed(ours.outcome)
                if ours.code not in _RESENT or breaks > _RESENDS:
                    raise to_be_sent(ours, [entry.item for entry in left.values()]) from error
                if ours.code == code_pb2.CODE_UNAUTHENTICATED:
                    self._connection.forget_token()
                await asyncio.sleep(min(0.2 * 2**breaks, 5.0))

    async def put_together(self, records: Sequence[NewRecord]) -> list[gateway_pb2.RecordReceipt]:
        """Write records as one transaction or not at all: at most 128, and 16 MiB of them.

        Proven before it is returned; raises as `submit_group` does. MeshError INVALID, before anything is
        signed, for a content that says that it is another record's or another patient's.
        """
        group, contents = self.prepare_together(records)
        return await submit_group(self._connection, group, contents)

    def prepare_together(
        self, records: Sequence[NewRecord]
    ) -> tuple[pb.CommandGroup, list[gateway_pb2.Content]]:
        """Sign records as one group, and give it with their contents. Raises as `put_together` does."""
        if not 1 <= len(records) <= command.MAX_GROUP_OF_RECORDS:
            raise Misuse(
                f"1 to {command.MAX_GROUP_OF_RECORDS} records are written together, not {len(records)}"
            )
        made: list[tuple[pb.PutRecord, gateway_pb2.Content]] = []
        for index, record in enumerate(records):
            try:
                made.append(put_record(record, index))
            except MeshError as error:
                reason = f"record {index + 1} of {len(records)}: {error.reason}"
                raise MeshError(error.code, reason, error.path, outcome=code_pb2.OUTCOME_NOT_DONE) from error
        channel = self._wallet.consortium.signed_channel
        group = command.make_group([(self._wallet, body) for body, _ in made], channel=channel)
        return group, [content for _, content in made]

    async def put_with(
        self, record: NewRecord, author: command.Signer, *others: tuple[command.Signer, Message]
    ) -> list[gateway_pb2.RecordReceipt]:
        """Write a record and do something else, such as a consent, as one transaction or not at all.

        Proven before it is returned; raises as `submit_group` does.
        """
        body, content = put_record(record)
        group = command.make_group([(author, body), *others], channel=self._wallet.consortium.signed_channel)
        return await submit_group(self._connection, group, [content])

    async def _stream(self, entries: Sequence[Prepared]) -> AsyncIterator[gateway_pb2.IngestResult]:
        stub = gateway_pb2_grpc.IngestServiceStub(self._connection.authenticated)
        requests = in_messages([entry.item for entry in entries])
        call = stub.Ingest(requests, metadata=await self._connection.metadata())
        try:
            async for response in call:
                if response.HasField("slowed"):
                    after = f", again in about {response.slowed.retry_after_ms} ms"
                    _log.warning(
                        "the gateway does not read: %s%s",
                        slowed_name(response.slowed),
                        after if response.slowed.retry_after_ms else "",
                    )
                for result in response.results:
                    yield result
        finally:
            call.cancel()


def slowed_name(slowed: gateway_pb2.Slowed) -> str:
    """Why a gateway does not read a stream for a while, such as `too many submissions were refused`."""
    return _SLOWED.get(slowed.reason, "for a reason that this version does not know")


def in_messages(items: Sequence[gateway_pb2.IngestItem]) -> Iterator[gateway_pb2.IngestRequest]:
    """Submissions in as few messages as their number and size allow."""
    together: list[gateway_pb2.IngestItem] = []
    size = 0
    for item in items:
        needed = item.ByteSize() + 8
        if together and (len(together) == _MOST_TOGETHER or size + needed > _MESSAGE_BYTES):
            yield gateway_pb2.IngestRequest(items=together)
            together, size = [], 0
        together.append(item)
        size += needed
    if together:
        yield gateway_pb2.IngestRequest(items=together)


def put_record(record: NewRecord, index: int = 0) -> tuple[pb.PutRecord, gateway_pb2.Content]:
    """The body that commits to a record, and the content with the salt of that commitment.

    index  of the command in its group

    Raises MeshError INVALID for a content that says that it is another record's or another patient's.
    """
    salt = envelope.new_salt()
    try:
        resource = json_text.parse_object(record.content)
    except json_text.NotJson as error:
        raise MeshError(code_pb2.CODE_INVALID, f"the content {error}", "content") from error
    body = pb.PutRecord(
        record_id=record.record_id,
        version=record.version,
        patient=record.patient,
        category=categories.of_resource(str(resource.get("resourceType", ""))),
        content_commitment=envelope.commitment(salt, record.content),
        content_bytes=len(record.content),
    )
    try:
        resources.check(resource, body)
    except resources.SaysOtherwise as error:
        raise MeshError(code_pb2.CODE_INVALID, error.reason, error.path) from error
    return body, gateway_pb2.Content(command_index=index, content=record.content, salt=salt)


def _written(entry: Prepared, result: gateway_pb2.IngestResult, *, is_first: bool) -> Written:
    """is_first: no sending before may have done something. A result speaks of its own sending alone."""
    if result.HasField("error"):
        ours = of_detail(result.error)
        if ours.nothing_done and not is_first:
            ours.outcome = code_pb2.OUTCOME_UNKNOWN
        return Written(entry.record, gateway_pb2.RecordReceipt(), to_be_sent(ours, [entry.item]))
    told = result.receipts[0]
    if told.receipt.outcome == code_pb2.OUTCOME_NOT_DONE and not is_first:
        told.receipt.outcome = code_pb2.OUTCOME_UNKNOWN
    return Written(entry.record, told)
