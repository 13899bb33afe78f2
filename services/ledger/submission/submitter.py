"""Puts submissions into batches by lane, and answers each caller with its own receipts."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from services.ledger.domain import batches, failures, receipts
from services.ledger.domain.batches import Lane, Seals
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.batch_submitter import BatchSubmitter
from services.runtime.batching import MicroBatcher, Waiting
from services.runtime.errors import MeshError, nothing_done

MAX_SUBMISSIONS = 1_000
MAX_REQUEST_BYTES = 9 << 20

_LINGER_SECONDS = 0.004
# Commands. A gateway has at most three batches of 1,000 records in progress, with sealed contents, and three
# of 400 accesses, and 200 groups of 16 that change documents: they must fit.
_QUEUED = {Lane.RECORDS: 36_000, Lane.DOCUMENTS: 16_000}
_QUEUED_OF_ONE = {Lane.RECORDS: 6_000, Lane.DOCUMENTS: 4_000}
# For one person behind a gateway. The gateway has ordered the records fairly already. Here those of one
# request stay together, since they share a seal.
_QUEUED_OF_A_PERSON = {Lane.RECORDS: None, Lane.DOCUMENTS: 500}
# Batches of documents go one at a time, since two would conflict.
_IN_FLIGHT = {Lane.RECORDS: 4, Lane.DOCUMENTS: 1}
# So many records make a transaction: waiting for more saves almost nothing.
_ENOUGH = {Lane.RECORDS: 50, Lane.DOCUMENTS: None}

# When every group of a request has one of these codes, the request failed and nothing was done.
_OF_THE_WHOLE = frozenset({code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_RESOURCE_EXHAUSTED})

_RETRY_AFTER_MS = 500

_TOO_LATE = "the deadline passed before the command was submitted, so nothing was done; send it again"


@dataclass(eq=False, slots=True)
class _Pending:
    """A submission in the queue or in a batch.

    person          whose turn it is among the caller's people; empty for records
    seals           that its contents name
    envelope_bytes  estimate of what it adds to a transaction
    commands        of its group: so many turns it has
    """

    submission: ledger_pb2.SealedGroup
    caller: str
    person: str
    lane: Lane
    seals: Seals
    envelope_bytes: int
    commands: int


_Answer = Waiting[_Pending, ledger_pb2.GroupReceipt]


class Submitter:
    """`async with Submitter(batch_submitter, metrics)`; leaving it drains the queues."""

    def __init__(self, batch_submitter: BatchSubmitter, metrics: LedgerMetrics) -> None:
        self._batch_submitter = batch_submitter
        self._lanes = {
            lane: MicroBatcher[_Pending, ledger_pb2.GroupReceipt](
                self._process,
                max_count=batches.MAX_GROUPS,
                max_bytes=batches.MAX_BYTES,
                linger_seconds=_LINGER_SECONDS,
                max_queue=_QUEUED[lane],
                max_per_caller=_QUEUED_OF_ONE[lane],
                max_per_key=_QUEUED_OF_A_PERSON[lane],
                key_of=lambda pending: (pending.caller, pending.person),
                size_of=attrgetter("envelope_bytes"),
                weight_of=attrgetter("commands"),
                max_in_flight=_IN_FLIGHT[lane],
                enough=_ENOUGH[lane],
                metrics=metrics.all,
                name=f"{lane.value}_batch",
            )
            for lane in Lane
        }

    async def __aenter__(self) -> "Submitter":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    async def submit(
        self,
        submissions: Sequence[ledger_pb2.SealedGroup],
        wait_seconds: float,
        caller: str = "",
        seals: Sequence[state_pb2.SealedBatch] = (),
    ) -> list[ledger_pb2.GroupReceipt]:
        """A GroupReceipt for each submission, in order, after at most `wait_seconds`.

        caller  requests of callers take turns; for documents also those of its people

        Raises MeshError INVALID or TOO_LARGE for the request, RESOURCE_EXHAUSTED when not all of it may wait,
        and RESOURCE_EXHAUSTED or UNAVAILABLE when every group failed with it. Nothing was done then.
        """
        with nothing_done():
            pending = _checked(submissions, caller, seals)
            for lane in {one.lane for one in pending}:
                commands = sum(one.commands for one in pending if one.lane is lane)
                self._lanes[lane].check_room(caller, commands)
        ends_at = asyncio.get_running_loop().time() + wait_seconds
        waiting = [self._enqueue(one, ends_at) for one in pending]
        queued = [answer for answer in waiting if not isinstance(answer, MeshError)]
        try:
            if queued:
                await asyncio.wait(queued, timeout=wait_seconds)
        finally:
            for answer in queued:
                answer.cancel()
        answers = [_answer(one, answer) for one, answer in zip(pending, waiting, strict=True)]
        _raise_when_all_failed(waiting, answers)
        return answers

    def _enqueue(self, pending: _Pending, ends_at: float) -> _Answer | MeshError:
        """Queue a submission, or give the error that is its answer.

        Errors: too large for a transaction, too many of one person, the service ends. Other submissions of
        the same request are not affected.
        """
        try:
            return self._lanes[pending.lane].enqueue(pending, ends_at=ends_at)
        except MeshError as err:
            return err

    async def _process(self, pending: list[_Pending]) -> list[ledger_pb2.GroupReceipt | Exception]:
        seals = {root: seal for one in pending for root, seal in one.seals.items()}
        return [*await self._batch_submitter.carry([one.submission for one in pending], seals)]


def _checked(
    submissions: Sequence[ledger_pb2.SealedGroup], caller: str, sealed: Sequence[state_pb2.SealedBatch]
) -> list[_Pending]:
    if not submissions:
        raise MeshError.invalid("a request holds at least one submission", "submissions")
    if len(submissions) > MAX_SUBMISSIONS:
        raise MeshError.too_large(
            f"a request holds at most {MAX_SUBMISSIONS} submissions; send fewer at once", "submissions"
        )
    sizes = [submission.ByteSize() for submission in submissions]
    seals = {seal.root_sha256: seal.SerializeToString() for seal in sealed}
    if sum(sizes) + sum(map(len, seals.values())) > MAX_REQUEST_BYTES:
        raise MeshError.too_large(
            f"a request holds at most {MAX_REQUEST_BYTES} bytes; send fewer submissions at once",
            "submissions",
        )
    named = [batches.seals_of(submission, seals) for submission in submissions]
    sharing = Counter(root for each in named for root in each)
    pending: list[_Pending] = []
    for index, (submission, size) in enumerate(zip(submissions, sizes, strict=True)):
        commands = len(submission.item.group.commands)
        if not commands:
            path = f"submissions[{index}].item.group"
            raise MeshError.invalid("a group holds at least one command", path)
        lane = batches.lane_of(submission)
        # A seal is in a transaction once, and submissions that share it are mostly in one batch.
        shares = sum(len(seal) // sharing[root] for root, seal in named[index].items())
        estimate = batches.envelope_bytes(size, commands) + shares
        person = batches.person_of(submission) if lane is Lane.DOCUMENTS else ""
        pending.append(_Pending(submission, caller, person, lane, named[index], estimate, commands))
    return pending


def _answer(pending: _Pending, answer: _Answer | MeshError) -> ledger_pb2.GroupReceipt:
    """A submission that was taken into a batch may be committed, whatever failed later. Others are not."""
    if isinstance(answer, MeshError):
        return _failed(pending, answer, taken=False)
    if not answer.cancelled():
        failure = answer.exception()
        if failure is None:
            return answer.result()
        if isinstance(failure, MeshError):
            return _failed(pending, failure, taken=answer.taken)
        raise failure
    late = MeshError.unknown_outcome(failures.UNKNOWN_REASON)
    if not answer.taken:
        late = MeshError.deadline_exceeded(_TOO_LATE)
    return _failed(pending, late, taken=answer.taken)


def _failed(pending: _Pending, failure: MeshError, *, taken: bool) -> ledger_pb2.GroupReceipt:
    code, outcome = failure.code, code_pb2.OUTCOME_NOT_DONE
    if taken and not failure.nothing_done:
        # Also for a fault of our own while a batch was being submitted.
        code, outcome = code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN
    return receipts.failed(pending.submission, code, failure.reason, outcome)


def _raise_when_all_failed(
    waited: Sequence[_Answer | MeshError], answers: Sequence[ledger_pb2.GroupReceipt]
) -> None:
    first = answers[0].receipts[0]
    if first.code not in _OF_THE_WHOLE:
        return
    every = (one for answer in answers for one in answer.receipts)
    if any((one.code, one.outcome) != (first.code, code_pb2.OUTCOME_NOT_DONE) for one in every):
        return
    delays = [answer.retry_after_ms for answer in waited if isinstance(answer, MeshError)]
    raise MeshError(
        first.code, first.reason, "", max(delays, default=_RETRY_AFTER_MS), code_pb2.OUTCOME_NOT_DONE
    )
