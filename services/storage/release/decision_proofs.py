"""Proves decisions from the block on the own member's peer. No service's word is taken for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cbmdhi.protocol import proof
from services.runtime.concurrency import each
from services.runtime.errors import MeshError
from services.runtime.keyed_locks import KeyedLocks
from services.runtime.refusal import Refused
from services.runtime.ttl_cache import TtlCache
from services.storage.channel.peer import OwnPeer
from services.storage.domain import decision
from services.storage.domain.decision import ReadGrant

_VERIFIED = 64
_AT_ONCE = 8


class _Verified(NamedTuple):
    """A verified transaction, and the members of the channel at that time."""

    transaction: proof.VerifiedTransaction
    members: frozenset[str]


class DecisionProofs:
    """Turns transactions and commands into grants.

    wait_seconds      how long to wait for the own peer to commit the transaction
    max_age_seconds   age at which a grant releases nothing more
    max_skew_seconds  how far a decision may be dated ahead
    """

    def __init__(
        self,
        peer: OwnPeer,
        now_ms: Callable[[], int],
        *,
        wait_seconds: float,
        max_age_seconds: float,
        max_skew_seconds: float,
    ) -> None:
        self._peer = peer
        self._now_ms = now_ms
        self._wait_seconds = wait_seconds
        self._max_age_ms = int(max_age_seconds * 1000)
        self._max_skew_ms = int(max_skew_seconds * 1000)
        self._verified: TtlCache[str, _Verified] = TtlCache(_VERIFIED)
        self._locks = KeyedLocks()

    async def grants(self, decided: Sequence[tuple[str, str]]) -> list[ReadGrant | MeshError]:
        """The grant of each (tx_id, command_id), in order, not too old. Each transaction is proven once.

        Or why there is none: FORBIDDEN, NOT_FOUND (not committed on the own peer), UNAVAILABLE.
        """
        wanted = dict.fromkeys(tx_id for tx_id, _ in decided)
        verified = await each(wanted, self._verify, _AT_ONCE)
        return [self._grant(verified[tx_id], command_id) for tx_id, command_id in decided]

    def _grant(self, verified: _Verified | MeshError, command_id: str) -> ReadGrant | MeshError:
        if isinstance(verified, MeshError):
            return verified
        try:
            grant = decision.derive_grant(verified.transaction, command_id, verified.members)
            decision.check_age(
                grant,
                now_ms=self._now_ms(),
                max_age_ms=self._max_age_ms,
                max_skew_ms=self._max_skew_ms,
            )
        except Refused as refused:
            return refused
        return grant

    async def _verify(self, tx_id: str) -> _Verified:
        """Verified once: a transaction never changes, and often holds many reads."""
        known = self._verified.get(tx_id)
        if known is not None:
            return known
        async with self._locks.hold(tx_id):
            known = self._verified.get(tx_id)
            if known is not None:
                return known
            block = await self._peer.block(tx_id, self._wait_seconds)
            try:
                verified = await _verified(block, tx_id, await self._peer.trust())
            except proof.ProofError:
                # A member or an orderer may have joined since the configuration was read.
                trust = await self._peer.trust(fresh=True)
                try:
                    verified = await _verified(block, tx_id, trust)
                except proof.ProofError as exc:
                    raise MeshError.forbidden(
                        f"the decision is not proven ({exc.check}): {exc.reason}"
                    ) from exc
            self._verified.put(tx_id, verified)
            return verified


async def _verified(block: bytes, tx_id: str, trust: proof.Trust) -> _Verified:
    transaction = await asyncio.to_thread(proof.verify_transaction, block, None, tx_id, trust)
    return _Verified(transaction, frozenset(trust.member_roots))
