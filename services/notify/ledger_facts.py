"""What was committed, from the member's own ledger service: an event only says that it is worth asking."""

import grpc

from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from services.runtime.client import RetryBudget, call

_SECONDS = 15.0
_MOST_BYTES = 32 << 20


class LedgerFacts:
    """Reads whole blocks, in order."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._retries = RetryBudget()

    async def page(self, from_block: int) -> ledger_pb2.ListCommittedResponse:
        """The next blocks; `next_block` is `from_block` when there are none. Raises MeshError."""
        return await call(
            self._stub.ListCommitted,
            ledger_pb2.ListCommittedRequest(from_block=from_block),
            deadline_seconds=_SECONDS,
            retries=self._retries,
            max_message_bytes=_MOST_BYTES,
        )
