"""Takes submissions, puts them into batches by lane, and answers each caller with its own receipts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from services.ledger.carrier import Carrier
from services.ledger.domain import batches, failures, receipts
from services.ledger.domain.batches import Lane
from services.ledger.metrics import LedgerMetrics
from services.runtime.batching import MicroBatcher
from services.runtime.errors import MeshError

MAX_SUBMISSIONS = 1_000
MAX_REQUEST_BYTES = 9 << 20

_LINGER_SECONDS = 0.004
_QUEUED = {Lane.RECORDS: 4_000, Lane.DOCUMENTS: 1_000}
# Batches of documents go one at a time: two of them would only get into each other's way.
_IN_FLIGHT = {Lane.RECORDS: 4, Lane.DOCUMENTS: 1}
# So many records are worth a transaction of their own: waiting for more saves next to nothing.
_ENOUGH = {Lane.RECORDS: 50, Lane.DOCUMENTS: None}

# When every group of a request got one of these, the request failed as a whole, and nothing was done.
_OF_THE_WHOLE = frozenset({code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_RESOURCE_EXHAUSTED})

_RETRY_AFTER_MS = 500

_TOO_LATE = "the deadline passed before the command was submitted, so nothing was done; send it again"


Answer = asyncio.Future[ledger_pb2.GroupReceipt]


@dataclass(eq=False, slots=True)
class _Pending:
    """A submission on its way.

    envelope_bytes  estimate of what it adds to a transaction
    started         it is in a batch that may be committed
    """

    submission: ledger_pb2.Submission
    envelope_bytes: int
    started: bool = False


class Submitter:
    """`async with Submitter(carrier, metrics)`; leaving it drains what waits."""

    def __init__(self, carrier: Carrier, metrics: LedgerMetrics) -> None:
        self._carrier = carrier
        self._lanes = {
            lane: MicroBatcher[_Pending, ledger_pb2.GroupReceipt](
                self._process,
                max_count=batches.MAX_GROUPS,
                max_bytes=batches.MAX_BYTES,
                linger_seconds=_LINGER_SECONDS,
                max_queue=_QUEUED[lane],
                size_of=attrgetter("envelope_bytes"),
                max_in_flight=_IN_FLIGHT[lane],
                enough=_ENOUGH[lane],
                metrics=metrics.all,
                name=f"{lane.value}_batch",
            )
            for lane in Lane
        }

    async def __aenter__(self) -> "Submitter":
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    async def submit(
        self, submissions: Sequence[ledger_pb2.Submission], wait_seconds: float
    ) -> list[ledger_pb2.GroupReceipt]:
        """A GroupReceipt for each submission, in order, after at most `wait_seconds`.

        Raises MeshError INVALID or TOO_LARGE for the request, RESOURCE_EXHAUSTED or UNAVAILABLE when
        that befell every group of it (nothing was done).
        """
        pending = _checked(submissions)
        waiting = [self._enqueue(one) for one in pending]
        try:
            await asyncio.wait(waiting, timeout=wait_seconds)
        finally:
            for answer in waiting:
                answer.cancel()
        answers = [_answer(one, answer) for one, answer in zip(pending, waiting, strict=True)]
        _raise_when_all_failed(waiting, answers)
        return answers

    def _enqueue(self, pending: _Pending) -> Answer:
        """What a full queue or a closing service says is the submission's answer too."""
        try:
            return self._lanes[batches.lane_of(pending.submission)].enqueue(pending)
        except MeshError as err:
            refused: Answer = asyncio.get_running_loop().create_future()
            refused.set_exception(err)
            return refused

    async def _process(self, pending: list[_Pending]) -> list[ledger_pb2.GroupReceipt | Exception]:
        for one in pending:
            one.started = True
        return [*await self._carrier.carry([one.submission for one in pending])]


def _checked(submissions: Sequence[ledger_pb2.Submission]) -> list[_Pending]:
    if not submissions:
        raise MeshError(code_pb2.CODE_INVALID, "a request holds at least one submission", "submissions")
    if len(submissions) > MAX_SUBMISSIONS:
        raise MeshError(
            code_pb2.CODE_TOO_LARGE,
            f"a request holds at most {MAX_SUBMISSIONS} submissions; send fewer at once",
            "submissions",
        )
    sizes = [submission.ByteSize() for submission in submissions]
    if sum(sizes) > MAX_REQUEST_BYTES:
        raise MeshError(
            code_pb2.CODE_TOO_LARGE,
            f"a request holds at most {MAX_REQUEST_BYTES} bytes; send fewer submissions at once",
            "submissions",
        )
    pending: list[_Pending] = []
    for index, (submission, size) in enumerate(zip(submissions, sizes, strict=True)):
        commands = len(submission.item.group.commands)
        if not commands:
            path = f"submissions[{index}].item.group"
            raise MeshError(code_pb2.CODE_INVALID, "a group holds at least one command", path)
        pending.append(_Pending(submission, batches.envelope_bytes(size, commands)))
    return pending


def _answer(pending: _Pending, answer: Answer) -> ledger_pb2.GroupReceipt:
    if answer.cancelled():
        if pending.started:
            return receipts.failed(pending.submission, code_pb2.CODE_UNKNOWN_OUTCOME, failures.UNKNOWN_REASON)
        return receipts.failed(pending.submission, code_pb2.CODE_DEADLINE_EXCEEDED, _TOO_LATE)
    failure = answer.exception()
    if failure is None:
        return answer.result()
    if isinstance(failure, MeshError):
        code = _certain(failure.code, started=pending.started)
        return receipts.failed(pending.submission, code, failure.reason)
    raise failure


def _certain(code: int, *, started: bool) -> int:
    """A fault of our own while a batch was on its way leaves its fate unknown."""
    return code_pb2.CODE_UNKNOWN_OUTCOME if started and code == code_pb2.CODE_INTERNAL else code


def _raise_when_all_failed(waited: Sequence[Answer], answers: Sequence[ledger_pb2.GroupReceipt]) -> None:
    first = answers[0].receipts[0]
    code = first.code
    if code not in _OF_THE_WHOLE:
        return
    if any(one.code != code or one.tx_id for answer in answers for one in answer.receipts):
        return
    delays = [
        failure.retry_after_ms
        for answer in waited
        if not answer.cancelled() and isinstance(failure := answer.exception(), MeshError)
    ]
    raise MeshError(code, first.reason, retry_after_ms=max(delays, default=_RETRY_AFTER_MS))
