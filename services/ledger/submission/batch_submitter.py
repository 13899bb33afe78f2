"""Submits a batch to the channel. Says for certain what its outcome is, or that it is not known.

A batch is endorsed, ordered and committed. Failures are tried again within a budget:

    another transaction was first               the same again after a while; then in halves
    members at different blocks or unavailable  the same again after a while
    the channel does not have the epoch         `epochs` submits it; then the same again
    one group may have made the call fail       in halves, so that the others are not affected
    an answer was lost                          see `ordering`: *unknown* is never taken for *failed*
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from google.protobuf.message import DecodeError

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from services.ledger.channel.epochs import Epochs
from services.ledger.channel.ports import Channel, Endorsed, FirstBlocks
from services.ledger.domain import batches, failures, receipts
from services.ledger.domain.batches import NO_SEALS, Seals
from services.ledger.domain.failures import Failure, Remedy
from services.ledger.domain.receipts import Settlement
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.ordering import RefusedByOrderer, UnknownOutcome, order
from services.ledger.traces import Traces
from services.runtime import tracing
from services.runtime.errors import code_name

Submissions = Sequence[ledger_pb2.SealedGroup]
GroupReceipts = list[ledger_pb2.GroupReceipt]

_log = structlog.get_logger()
_CONFLICTS = frozenset({fabric.MVCC_READ_CONFLICT, fabric.PHANTOM_READ_CONFLICT})


@dataclass(frozen=True)
class Limits:
    """Limits for one batch with its halves.

    transactions  most endorsed transactions
    tries         most attempts with the same submissions. They take longer than a peer needs to leave an
                  orderer that hangs
    """

    deadline_seconds: float = 25.0
    transactions: int = 40
    tries: int = 12
    first_delay_seconds: float = 0.05
    longest_delay_seconds: float = 1.0


class Budget:
    """Transactions and time that are left to a batch."""

    def __init__(self, limits: Limits) -> None:
        self._left = limits.transactions
        self.ends_at = asyncio.get_running_loop().time() + limits.deadline_seconds

    def take(self) -> bool:
        self._left -= 1
        return self._left >= 0 and asyncio.get_running_loop().time() < self.ends_at


class BatchSubmitter:
    """Submits any number of batches at a time."""

    def __init__(
        self,
        channel: Channel,
        blocks: FirstBlocks,
        metrics: LedgerMetrics,
        limits: Limits | None = None,
        traces: Traces | None = None,
        epochs: Epochs | None = None,
    ) -> None:
        self._channel = channel
        self._blocks = blocks
        self._metrics = metrics
        self._limits = limits or Limits()
        self._traces = traces or Traces()
        self._epochs = epochs or Epochs(channel, metrics)

    async def carry(self, submissions: Submissions, seals: Seals = NO_SEALS) -> GroupReceipts:
        """One GroupReceipt for each submission, in order. Failures are in the receipts, too.

        seals  that the submissions' contents name
        """
        answers = await self._settle(submissions, seals, Budget(self._limits))
        self._metrics.count_verdicts(answers)
        return answers

    async def _settle(self, submissions: Submissions, seals: Seals, budget: Budget) -> GroupReceipts:
        failure = failures.OUT_OF_BUDGET
        attempt = 0
        while budget.take():
            outcome = await self._once(submissions, seals, budget)
            if not isinstance(outcome, Failure):
                return outcome
            failure, attempt = outcome, attempt + 1
            if _wants_halves(failure.remedy, attempt) and len(submissions) > 1:
                # One after the other: the second half may build on the first.
                first, second = batches.halves(submissions)
                return await self._settle(first, seals, budget) + await self._settle(second, seals, budget)
            if not self._wants_retry(failure.remedy, attempt):
                break
            try:
                async with asyncio.timeout_at(budget.ends_at):
                    if failure.remedy is Remedy.TELL_THE_TIME:
                        await self._epochs.ensure()
                    await asyncio.sleep(self._delay_seconds(attempt))
            except TimeoutError:
                break
        _log.warning("batch.failed", code=code_name(failure.code), count=len(submissions), attempt=attempt)
        return receipts.all_failed(submissions, failure.code, failure.reason, code_pb2.OUTCOME_NOT_DONE)

    async def _once(self, submissions: Submissions, seals: Seals, budget: Budget) -> GroupReceipts | Failure:
        batch, sealed_keys = batches.batch_bytes(submissions, seals), batches.sealed_keys(submissions)
        holders = batches.holders(sealed_keys)
        self._metrics.batch_bytes.observe(len(batch) + sum(key.ByteSize() for key in sealed_keys))
        try:
            async with asyncio.timeout_at(budget.ends_at):
                with self._metrics.step("endorse"):
                    endorsed = await self._channel.endorse(batch, sealed_keys, holders)
        except TimeoutError:
            return failures.TOO_LATE
        except (fabric.EndorseError, fabric.EvaluateError) as exc:
            return failures.of_endorsement(
                exc.status.name, exc.chaincode_messages, needs_one=bool(holders.needed)
            )
        try:
            result = state_pb2.BatchResult.FromString(endorsed.result)
            receipts.check_shape(submissions, result)
        except (DecodeError, receipts.MalformedResult, fabric.MalformedMessage):
            return failures.MALFORMED_RESULT
        if unfit := receipts.unfit_policies(submissions, result):
            return await self._without(unfit, submissions, seals, result, budget)
        if endorsed.changes_nothing:
            # Sent again, or refused with an unknown signer: there is nothing to order.
            return await self._answer(submissions, result, Settlement("", 0, frozenset()), budget)
        return await self._commit(submissions, endorsed, result, budget)

    async def _without(
        self,
        unfit: Sequence[int],
        submissions: Submissions,
        seals: Seals,
        result: state_pb2.BatchResult,
        budget: Budget,
    ) -> GroupReceipts:
        """Submit the other groups: the unfit ones change nothing, and their text must not be in a block."""
        ours = [submissions[place] for place in unfit]
        verdicts = state_pb2.BatchResult(groups=[result.groups[place] for place in unfit])
        left = [one for place, one in enumerate(submissions) if place not in unfit]
        answers = await self._settle(left, seals, budget) if left else []
        refused = receipts.of_result(ours, verdicts, Settlement("", 0, frozenset()), {})
        for place, answer in zip(unfit, refused, strict=True):
            answers.insert(place, answer)
        return answers

    async def _commit(
        self, submissions: Submissions, endorsed: Endorsed, result: state_pb2.BatchResult, budget: Budget
    ) -> GroupReceipts | Failure:
        self._traces.keep(endorsed.transaction_id, tracing.sampled())
        try:
            with tracing.span("transaction") as span:
                span.set(tx_id=endorsed.transaction_id)
                status = await order(endorsed, self._channel, self._metrics, budget.ends_at)
                span.set(block=status.block_number, code=status.name)
        except RefusedByOrderer:
            return failures.REFUSED_BY_ORDERER
        except UnknownOutcome:
            self._metrics.unknown.inc()
            _log.error("batch.outcome_unknown", tx_id=endorsed.transaction_id, count=len(submissions))
            return receipts.all_failed(
                submissions,
                code_pb2.CODE_UNKNOWN_OUTCOME,
                failures.UNKNOWN_REASON,
                code_pb2.OUTCOME_UNKNOWN,
            )
        if status.successful:
            where = Settlement(endorsed.transaction_id, status.block_number, endorsed.written)
            return await self._answer(submissions, result, where, budget)
        if status.code in _CONFLICTS:
            self._metrics.conflicts.inc()
        _log.info("batch.invalid", state=status.name, block=status.block_number, count=len(submissions))
        return failures.of_validation(status.code, status.name, _CONFLICTS)

    async def _answer(
        self,
        submissions: Submissions,
        result: state_pb2.BatchResult,
        settlement: Settlement,
        budget: Budget,
    ) -> GroupReceipts:
        earlier = receipts.first_transactions(result) - {settlement.tx_id}
        blocks: dict[str, int] = {}
        if earlier:
            # Committed is committed, in whichever transaction it was first.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(budget.ends_at):
                    blocks = await self._blocks.blocks_of(sorted(earlier))
        return receipts.of_result(submissions, result, settlement, blocks)

    def _wants_retry(self, remedy: Remedy, attempt: int) -> bool:
        again = (Remedy.RETRY, Remedy.RETRY_THEN_HALVE, Remedy.TELL_THE_TIME)
        return remedy in again and attempt < self._limits.tries

    def _delay_seconds(self, attempt: int) -> float:
        ceiling = min(
            self._limits.longest_delay_seconds, self._limits.first_delay_seconds * 3 ** (attempt - 1)
        )
        return ceiling * random.uniform(0.3, 1.0)  # noqa: S311 — jitter, not a secret


def _wants_halves(remedy: Remedy, attempt: int) -> bool:
    return remedy is Remedy.HALVE or (remedy is Remedy.RETRY_THEN_HALVE and attempt > 1)
