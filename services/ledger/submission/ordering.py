"""Orders an endorsed transaction and finds its outcome. *Failed* and *unknown* are different."""

import asyncio
import contextlib
import random

from fabric_gateway import (
    DUPLICATE_TXID,
    VALID,
    CommitStatus,
    CommitStatusError,
    EvaluateError,
    MalformedMessage,
    SubmitError,
)
from services.ledger.channel.ports import Channel, Commit, Endorsed
from services.ledger.metrics import LedgerMetrics

_SUBMISSIONS = 4
_RECHECK_SECONDS = 3.0
_DELAY_SECONDS = 0.2
# For transactions that an orderer accepted and that are in no block yet. Few are open at a time, and a block
# follows within a second, so sending them again does not overload a busy orderer.
_RESENDS = 2


class RefusedByOrderer(Exception):
    """The transaction is certainly not ordered."""


class UnknownOutcome(Exception):
    """The transaction may be ordered. Its outcome was not known in time."""


async def order(endorsed: Endorsed, channel: Channel, metrics: LedgerMetrics, ends_at: float) -> CommitStatus:
    """Submit, and wait until the own peer has it in a block: valid, or invalid for a reason.

    ends_at  loop time at which the search for the outcome ends
    Raises RefusedByOrderer, UnknownOutcome.
    """
    try:
        async with asyncio.timeout_at(ends_at):
            with metrics.step("submit"):
                commit = await _submit(endorsed)
            with metrics.step("commit"):
                return await _fate(commit, endorsed, channel)
    except TimeoutError:
        raise UnknownOutcome from None


async def _submit(endorsed: Endorsed) -> Commit:
    """Send again after a lost answer: the channel accepts a transaction id only once."""
    for attempt in range(_SUBMISSIONS):
        try:
            return await endorsed.submit()
        except SubmitError as exc:
            if not exc.may_have_happened:
                if attempt == 0:
                    raise RefusedByOrderer from exc
                break
        await _pause(_DELAY_SECONDS * 2**attempt)
    return endorsed.commit()


async def _fate(commit: Commit, endorsed: Endorsed, channel: Channel) -> CommitStatus:
    resends = _RESENDS
    while True:
        silent, status = False, None
        try:
            status = await commit.status(_RECHECK_SECONDS)
        except CommitStatusError as exc:
            silent = exc.status.name == "DEADLINE_EXCEEDED"
        if status is None or not status.successful:
            # Submitted twice: the first counts. Or a stranger's envelope with the same id was first.
            status = await _in_blocks(endorsed.transaction_id, channel)
        if status is not None:
            return status
        if silent and resends:
            # An orderer that hangs or dies loses what it had accepted, even if it does not lead.
            resends -= 1
            with contextlib.suppress(SubmitError):
                await endorsed.submit()
        await _pause(_DELAY_SECONDS)


async def _in_blocks(transaction_id: str, channel: Channel) -> CommitStatus | None:
    try:
        block = await channel.block_by_transaction(transaction_id)
    except (EvaluateError, MalformedMessage):
        return None
    codes = [one.validation_code for one in block.transactions if one.transaction_id == transaction_id]
    # An id follows from creator and nonce, and peers check that: a valid one with this id is ours.
    counting = [code for code in codes if code == VALID] or [code for code in codes if code != DUPLICATE_TXID]
    return CommitStatus(transaction_id, counting[0], block.number) if counting else None


async def _pause(seconds: float) -> None:
    """Wait for half to all of the time."""
    await asyncio.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311 — jitter, not a secret
