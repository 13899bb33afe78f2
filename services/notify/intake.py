"""From a committed event to the inboxes, and from there to who listens."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Protocol

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1 import events_pb2
from services.notify.domain import Identity, Notice, ReviewRule, announce, concerned, wants_review
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.runtime.errors import MeshError
from services.runtime.events import Event
from services.runtime.telemetry import Metrics


class ReviewRules(Protocol):
    """services.notify.policy.Policy, or a test's."""

    async def review_rules(self) -> list[ReviewRule] | None: ...


class Intake:
    """Handlers of the durable consumer. Idempotent: an event that comes again changes nothing."""

    def __init__(
        self,
        inbox: Inbox,
        feeds: Feeds,
        policy: ReviewRules,
        metrics: Metrics,
        *,
        channel: str,
        home: str,
    ) -> None:
        """`home`: MSP id of the member whose people are told."""
        self._inbox = inbox
        self._feeds = feeds
        self._policy = policy
        self._channel = channel
        self._home = home
        self._notified = metrics.counter("notifications", "Notifications put into an inbox", ("kind",))

    async def handle(self, event: Event) -> None:
        """One alone; see `handle_all`."""
        await self.handle_all([event])

    async def handle_all(self, events: Sequence[Event]) -> None:
        """Put what follows from all of them into the inboxes, or nothing.

        Raises MeshError INVALID or WRONG_CHANNEL when one is no event of this channel.
        """
        transactions = [self._read(event) for event in events]
        addresses = set[str]().union(*map(concerned, transactions))
        known = await self._inbox.known(addresses)
        staff = {one.address: one for one in await self._inbox.staff()}
        notices: list[Notice] = []
        identities: dict[str, Identity] = {}
        for transaction in transactions:
            rules = await self._policy.review_rules() if wants_review(transaction, known) else []
            announcement = announce(transaction, known, staff.values(), rules, self._home)
            notices += announcement.notices
            for one in announcement.identities:
                # The next event sees what this one changed.
                known[one.address] = identities[one.address] = one
                staff.pop(one.address, None)
                if one.is_staff:
                    staff[one.address] = one
        await self._keep(notices, identities.values())

    def _read(self, event: Event) -> events_pb2.TransactionCommitted:
        transaction = events_pb2.TransactionCommitted()
        try:
            transaction.ParseFromString(event.data)
        except DecodeError as exc:
            raise MeshError(code_pb2.CODE_INVALID, "the event is no TransactionCommitted") from exc
        if transaction.channel != self._channel:
            raise MeshError(code_pb2.CODE_WRONG_CHANNEL, "the event is of another channel")
        return transaction

    async def _keep(self, notices: Collection[Notice], identities: Collection[Identity]) -> None:
        kept = await self._inbox.keep(notices, identities)
        for kind, count in Counter(one.notice.kind for one in kept).items():
            self._notified.labels(kind).inc(count)
        # Whoever begins to listen from here on finds these in the inbox.
        self._feeds.publish(kept)
