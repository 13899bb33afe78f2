"""The consortium's review rules, asked from the member's ledger service."""

import grpc
import structlog

from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from services.notify.notices import ReviewRule
from services.runtime.client import RetryBudget, call
from services.runtime.errors import TRANSIENT, MeshError, code_name

_log = structlog.get_logger()

_SECONDS = 3.0


class Policy:
    """Reads the present policy each time, since registrations are rare and a rule must not be stale."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._retries = RetryBudget()

    async def review_rules(self) -> list[ReviewRule] | None:
        """The review rules; None: the ledger refuses. Asking too many to vote harms less than asking none.

        Raises MeshError when the ledger may answer later.
        """
        try:
            answer = await call(
                self._stub.ListMembers,
                ledger_pb2.ListMembersRequest(),
                deadline_seconds=_SECONDS,
                retries=self._retries,
            )
        except MeshError as err:
            if err.code in TRANSIENT:
                raise
            _log.warning("policy.unknown", code=code_name(err.code), reason=err.reason)
            return None
        return [ReviewRule(rule.role, rule.quorum, rule.home_only) for rule in answer.policy.review_rules]
