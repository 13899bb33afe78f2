"""Records: written with a signed commitment, over a stream or in a group with something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from typing import NoReturn, TypeVar, overload

from google.protobuf.message import Message

from cbmdhi.client import tracing
from cbmdhi.client.commands import submit_group
from cbmdhi.client.connection import Connection, check_size
from cbmdhi.client.ingest import Ingest
from cbmdhi.client.ingest_entries import Entry, GaveUp
from cbmdhi.client.new_record import NewRecord, Prepared, ToSend, put_record
from cbmdhi.client.written import Written, written_of
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse, NotAllWritten, NotSent, UnknownOutcome, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7

T = TypeVar("T")

# Records taken of a list before everybody else has a turn.
_TURN = 100


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
            # Not the record's id: of two versions that are sent together each has its own result.
            submission_id=uuid7(),
            group=group,
            contents=[content],
            traceparent=tracing.headers().get("traceparent", ""),
        )
        return Prepared(record, item)

    @overload
    async def put(self, records: NewRecord) -> Written: ...

    @overload
    async def put(self, records: Iterable[NewRecord]) -> list[Written]: ...

    async def put(self, records: NewRecord | Iterable[NewRecord]) -> Written | list[Written]:
        """Write one record, or several over one stream; the results are in the order given.

        The receipts are the gateway's word: `cbmdhi.verify.verify_receipts` checks what this gave afterwards.

        Raises unless all are written. Of one: NotCommitted with the refusal's receipt; NotSent or
        UnknownOutcome with what was signed; MeshError INVALID for a content that says that it is another
        record's or patient's. Of several: NotAllWritten, with what became of each. Whoever wants to look at
        each result without an exception takes `put_each`, or `send` for a stream that goes on.

        Cut off (by Ctrl-C, by a time-out of the caller's), what may have been sent is kept in
        `client.outbox`, also by `put_each` and `send`: `client.resend` says what became of it.

            written = await engine.records.put(NewRecord.of(patient, observation))
            print(written.tx_id, written.cid)
        """
        if isinstance(records, NewRecord):
            [written] = await self.put_each([records])
            return written if written.error is None else _raise(written.error)
        together = await self.put_each(list(records))
        if any(one.error for one in together):
            raise NotAllWritten(together)
        return together

    async def put_each(self, records: Sequence[NewRecord]) -> list[Written]:
        """Write several records over one stream. Gives what became of each, in order: to be looked at.

        for written in await engine.records.put_each(records):
            if not written.ok:
                print(written.record.record_id, written.error)
        """
        results: dict[str, Written] = {}
        prepared: dict[str, Prepared] = {}
        places: list[str] = []
        for record in records:
            try:
                one = self.prepare(record)
                prepared[place := one.item.submission_id] = one
            except MeshError as error:
                results[place := uuid7()] = Written(record, gateway_pb2.RecordReceipt(), error)
            places.append(place)
        try:
            async for place, written in self._sent(prepared.values(), None):
                results[place] = written
        except (NotSent, UnknownOutcome) as error:
            for place in prepared.keys() - results.keys():
                one = prepared[place]
                why = to_be_sent(error, [one.item])
                results[place] = Written(one.record, gateway_pb2.RecordReceipt(), why)
        except asyncio.CancelledError:
            # Nobody hears of those that are done, either.
            self._connection.on_cut([one.item for place, one in prepared.items() if place in results])
            raise
        return [results[place] for place in places]

    async def send(
        self,
        records: Iterable[ToSend] | AsyncIterable[ToSend],
        *,
        patience_seconds: float | None = None,
    ) -> AsyncGenerator[Written]:
        """Write what a source gives, for as long as it gives something; results come as they are ready.

        records           those that are not signed yet are signed when their turn comes. They are taken no
                          faster than the gateway takes them, so the source may be endless. What an error gave
                          back (`again`) is sent as it is
        patience_seconds  for streams that break one after the other without a single result, and for a
                          gateway that takes what is sent and answers nothing; by default as long as a call
                          may take (`Client(deadline_seconds)`). What it leaves unanswered for so
                          long while it answers others goes over to a new stream, as after a break

        The stream goes over to the next one before its token ends, and where it breaks it is opened again and
        everything without a result is sent again, under the same ids: nothing doubles. When that is of no
        use, raises NotSent (nothing has left) or UnknownOutcome with what has no result, signed as it is.

            async for written in engine.records.send(new_observations()):
                acknowledge(written.record) if written.ok else put_aside(written)

        Whoever stops before the end closes it, best by `aclosing`: then nothing runs on, the source is closed
        as well, and what may have been sent is kept in `client.outbox`.

            async with aclosing(engine.records.send(new_observations())) as results:
                async for written in results:
                    if not written.ok:
                        break
        """
        async with aclosing(self._sent(records, patience_seconds)) as results:
            async for _, written in results:
                yield written

    async def _sent(
        self,
        records: Iterable[ToSend] | AsyncIterable[ToSend],
        patience_seconds: float | None,
    ) -> AsyncGenerator[tuple[str, Written]]:
        """Each with its submission id; what cannot be sent has none."""
        patience = self._connection.deadline_seconds if patience_seconds is None else patience_seconds
        ingest = Ingest(self._connection, self._entries(records), patience_seconds=patience)

        def unheard() -> Sequence[Message]:
            left = [entry.what for entry in ingest.unheard()]
            return [one.item for one in left if isinstance(one, Prepared)]

        self._connection.under_way.add(unheard)
        try:
            async with aclosing(ingest.results()) as results:
                async for entry, result in results:
                    yield entry.submission_id, written_of(entry, result)
        except GaveUp as error:
            raise _given_up(error) from error.__cause__
        except BaseException:  # Ctrl-C, a caller's time-out, a `break`, a source that raises
            self._connection.cut(unheard)
            raise
        finally:
            self._connection.under_way.discard(unheard)

    async def _entries(
        self, records: Iterable[ToSend] | AsyncIterable[ToSend]
    ) -> AsyncGenerator[list[Entry[Prepared | NewRecord]]]:
        """What can be sent, as it comes; and what cannot, with the reason."""
        async with aclosing(_each(records)) as each:
            async for one in each:
                yield [self._entry(one)]

    def _entry(self, one: ToSend) -> Entry[Prepared | NewRecord]:
        signed = Prepared.of(one) if isinstance(one, gateway_pb2.IngestItem) else one
        try:
            prepared = signed if isinstance(signed, Prepared) else self.prepare(signed)
            check_size(prepared.item)
        except MeshError as error:
            name = signed.item.submission_id if isinstance(signed, Prepared) else ""
            return Entry(name, b"", signed, refused=error)
        item = prepared.item
        return Entry(item.submission_id, item.SerializeToString(), prepared)

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

            follows = await anna.consents.latest()
            body = consent(anna.wallet.address, provision(msp="LakesideMSP"), follows=follows)
            await anna.records.put_with(record, clinician.wallet, (anna.wallet, body))
        """
        body, content = put_record(record)
        group = command.make_group([(author, body), *others], channel=self._wallet.consortium.signed_channel)
        return await submit_group(self._connection, group, [content])


def _given_up(error: GaveUp) -> NotSent | UnknownOutcome:
    """With all that has no result: unknown, as soon as one of it is."""
    why = error.why
    is_open = any(entry.may_be_done for entry in error.left)
    why.outcome = code_pb2.OUTCOME_UNKNOWN if is_open else code_pb2.OUTCOME_NOT_DONE
    return to_be_sent(why, [entry.what.item for entry in error.left])


async def _each(records: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T]:
    if isinstance(records, AsyncIterable):
        try:
            async for record in records:
                yield record
        finally:
            if isinstance(records, AsyncGenerator):
                await records.aclose()
        return
    for place, record in enumerate(records, 1):
        yield record
        if place % _TURN == 0:
            await asyncio.sleep(0)


def _raise(error: MeshError) -> NoReturn:
    raise error
