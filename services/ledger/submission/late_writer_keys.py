"""Delivers writer keys to custodians that were unavailable when the first record was written under them.

The own peer has the sealed keys and the list of what each custodian lacks (docs/adr/0030-late-keys.md). A
custodian that stays unavailable is tried less and less often, at last every 30 s.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import structlog
from google.protobuf.message import DecodeError

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2, state_pb2
from services.ledger.channel.peer_state import mesh_error
from services.ledger.channel.ports import Channel
from services.ledger.domain import failures
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.ordering import RefusedByOrderer, UnknownOutcome, order
from services.runtime.errors import code_name

EVERY_SECONDS = 5.0
_MOST_SKIPPED = 6
# How many keys at a time that the own peer lists but does not have: they are skipped.
_MOST_QUESTIONS = 10
_DEADLINE_SECONDS = 15.0

_log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[object]]


class LateWriterKeys:
    """`run` it for the life of the service."""

    def __init__(self, channel: Channel, metrics: LedgerMetrics, sleep: Sleep = asyncio.sleep) -> None:
        self._channel = channel
        self._metrics = metrics
        self._sleep = sleep
        self._after: dict[str, str] = {}
        self._failed: Counter[str] = Counter()
        self._skip: Counter[str] = Counter()

    async def run(self) -> None:
        told = code_pb2.CODE_OK
        while True:
            code = await self._looked()
            if code not in (told, code_pb2.CODE_OK):
                _log.warning("key.not_delivered", code=code_name(code))
            told = code
            await self._sleep(EVERY_SECONDS)

    async def _looked(self) -> int:
        try:
            await self.look()
        except fabric.EvaluateError as exc:
            return mesh_error(exc).code
        except TimeoutError:
            return code_pb2.CODE_UNAVAILABLE
        except DecodeError:
            return code_pb2.CODE_INTEGRITY
        return code_pb2.CODE_OK

    async def look(self) -> None:
        """Deliver waiting keys to each custodian that may be available again.

        Raises EvaluateError, TimeoutError, DecodeError.
        """
        first = await self._ask("", "")
        is_any = first.late_keys.keys or first.late_keys_after
        left = 0
        # Each by itself, so that an unavailable one does not block the others.
        for custodian in await self._channel.members() if is_any else ():
            left += await self._deliver_to(custodian)
        self._metrics.late_keys.set(left)

    async def _deliver_to(self, custodian: str) -> int:
        """How many keys still wait, as far as one answer lists them."""
        keys = await self._late(custodian)
        if keys and self._skip[custodian]:
            self._skip[custodian] -= 1
            return len(keys)
        while keys:
            if not await self._deliver(keys):
                self._failed[custodian] += 1
                self._skip[custodian] = min(2 ** self._failed[custodian] - 1, _MOST_SKIPPED)
                return len(keys)
            del self._failed[custodian]
            keys = await self._late(custodian)
        return 0

    async def _late(self, custodian: str) -> Sequence[state_pb2.SealedKey]:
        """The next keys that can be delivered, from the last place on, starting over at the end."""
        after = self._after.pop(custodian, "")
        is_whole = after == ""
        for _ in range(_MOST_QUESTIONS):
            answer = await self._ask(custodian, after)
            after = answer.late_keys_after
            if answer.late_keys.keys or (is_whole and not after):
                self._after[custodian] = after
                return answer.late_keys.keys
            is_whole = is_whole or not after
        self._after[custodian] = after
        return ()

    async def _ask(self, custodian: str, after: str) -> state_pb2.QueryResult:
        query = state_pb2.Query(get_late_keys=state_pb2.GetLateKeys(custodian=custodian, after=after))
        async with asyncio.timeout(_DEADLINE_SECONDS):
            return state_pb2.QueryResult.FromString(await self._channel.query(query.SerializeToString()))

    async def _deliver(self, keys: Sequence[state_pb2.SealedKey]) -> bool:
        ends_at = asyncio.get_running_loop().time() + _DEADLINE_SECONDS
        try:
            async with asyncio.timeout_at(ends_at):
                endorsed = await self._channel.deliver(keys)
            if endorsed.changes_nothing:
                return False  # another replica was first, and this peer will know
            return (await order(endorsed, self._channel, self._metrics, ends_at)).successful
        except (fabric.EndorseError, fabric.EvaluateError) as exc:
            code = failures.of_endorsement(exc.status.name, exc.chaincode_messages, needs_one=True).code
            _log.info("key.not_delivered", code=code_name(code), count=len(keys))
        except (TimeoutError, RefusedByOrderer, UnknownOutcome, fabric.MalformedMessage):
            _log.info("key.not_delivered", code=code_name(code_pb2.CODE_UNAVAILABLE), count=len(keys))
        return False
