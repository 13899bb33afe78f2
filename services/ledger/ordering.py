"""From an endorsed transaction to its fate. *Failed* is told apart from *unknown*."""

import asyncio
import random

from services.ledger.chain import Channel, Commit, Endorsed
from services.ledger.fabric import (
    DUPLICATE_TXID,
    VALID,
    CommitStatus,
    CommitStatusError,
    EvaluateError,
    MalformedMessage,
    SubmitError,
)
from services.ledger.metrics import LedgerMetrics

_SUBMISSIONS = 4
_RECHECK_SECONDS = 5.0
_DELAY_SECONDS = 0.2


class RefusedByOrderer(Exception):
    """The transaction is certainly not ordered."""


class UnknownOutcome(Exception):
    """The transaction may be ordered, and its fate was not learned in time."""


async def order(endorsed: Endorsed, channel: Channel, metrics: LedgerMetrics, ends_at: float) -> CommitStatus:
    """Submit, and wait until the own peer has it in a block: valid, or invalid for a reason.

    ends_at  loop time at which the search for the fate ends
    Raises RefusedByOrderer, UnknownOutcome.
    """
    with metrics.step("submit"):
        commit = await _submit(endorsed, ends_at)
    with metrics.step("commit"):
        return await _fate(commit, endorsed.transaction_id, channel, ends_at)


async def _submit(endorsed: Endorsed, ends_at: float) -> Commit:
    """A lost answer is followed by the same transaction: the channel takes an id only once."""
    for attempt in range(_SUBMISSIONS):
        try:
            return await endorsed.submit()
        except SubmitError as exc:
            if not exc.may_have_happened:
                if attempt == 0:
                    raise RefusedByOrderer from exc
                break
        if not await _pause(_DELAY_SECONDS * 2**attempt, ends_at):
            break
    return endorsed.commit()


async def _fate(commit: Commit, transaction_id: str, channel: Channel, ends_at: float) -> CommitStatus:
    while (left := ends_at - asyncio.get_running_loop().time()) > 0:
        try:
            status = await commit.status(min(left, _RECHECK_SECONDS))
        except CommitStatusError:
            status = await _in_blocks(transaction_id, channel)
        if status is not None and not status.successful:
            # Submitted twice: the first counts. Or a stranger's envelope bears the id, and came first.
            status = await _in_blocks(transaction_id, channel)
        if status is not None:
            return status
        await _pause(_DELAY_SECONDS, ends_at)
    raise UnknownOutcome


async def _in_blocks(transaction_id: str, channel: Channel) -> CommitStatus | None:
    try:
        block = await channel.block_by_transaction(transaction_id)
    except (EvaluateError, MalformedMessage):
        return None
    codes = [one.validation_code for one in block.transactions if one.transaction_id == transaction_id]
    # An id follows from its creator and a nonce, which peers check: what is valid under it is ours.
    counting = [code for code in codes if code == VALID] or [code for code in codes if code != DUPLICATE_TXID]
    return CommitStatus(transaction_id, counting[0], block.number) if counting else None


async def _pause(seconds: float, ends_at: float) -> bool:
    """Wait about as long; False when the time would be over."""
    seconds *= random.uniform(0.5, 1.0)  # noqa: S311 — jitter, not a secret
    if asyncio.get_running_loop().time() + seconds >= ends_at:
        return False
    await asyncio.sleep(seconds)
    return True
