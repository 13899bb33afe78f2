"""From a committed event to the inboxes, and from there to who listens."""

from typing import Protocol

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1 import events_pb2
from services.notify.domain import ReviewRule, announce, wants_review
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.runtime.errors import MeshError
from services.runtime.events import Event
from services.runtime.telemetry import Metrics


class ReviewRules(Protocol):
    """services.notify.policy.Policy, or a test's."""

    async def review_rules(self) -> list[ReviewRule] | None: ...


class Intake:
    """Handler of the durable consumer. Idempotent: an event that comes again changes nothing."""

    def __init__(
        self, inbox: Inbox, feeds: Feeds, policy: ReviewRules, channel: str, metrics: Metrics
    ) -> None:
        self._inbox = inbox
        self._feeds = feeds
        self._policy = policy
        self._channel = channel
        self._notified = metrics.counter("notifications", "Notifications put into an inbox", ("kind",))

    async def handle(self, event: Event) -> None:
        """Raises MeshError INVALID for what is no event of this channel."""
        transaction = events_pb2.TransactionCommitted()
        try:
            transaction.ParseFromString(event.data)
        except DecodeError as exc:
            raise MeshError(code_pb2.CODE_INVALID, "the event is no TransactionCommitted") from exc
        if transaction.channel != self._channel:
            raise MeshError(code_pb2.CODE_WRONG_CHANNEL, "the event is of another channel")
        known = await self._inbox.known([document.address for document in transaction.identities])
        rules = await self._policy.review_rules() if wants_review(transaction, known) else []
        announcement = announce(transaction, known, await self._inbox.staff(), rules)
        new = await self._inbox.keep(announcement)
        for notification in new:
            self._notified.labels(notification.notice.kind).inc()
        self._feeds.publish(new)
