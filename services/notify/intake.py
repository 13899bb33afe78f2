"""Reads committed blocks into the inboxes, and wakes their listeners."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import structlog

from cbmdhi.ledger.v1 import events_pb2, ledger_pb2
from services.notify.domain import announce, concerned, wants_review
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.notify.ledger_facts import LedgerFacts
from services.notify.notices import Identity, Notice
from services.notify.policy import Policy
from services.runtime.errors import MeshError, code_name
from services.runtime.events import Event
from services.runtime.telemetry import Metrics

_log = structlog.get_logger()


class Intake:
    """`async with Intake(…)`: leaving waits for the page that is being written.

    Reads the ledger's blocks from the saved place on. The notices of a page and the new place are written in
    one transaction. So nothing is left out, even if events are lost, and nothing is told twice.
    """

    def __init__(
        self,
        inbox: Inbox,
        feeds: Feeds,
        committed: LedgerFacts,
        policy: Policy,
        metrics: Metrics,
        *,
        channel: str,
        home: str,
    ) -> None:
        """`home`: MSP id of the member whose people are told."""
        self._inbox = inbox
        self._feeds = feeds
        self._committed = committed
        self._policy = policy
        self._channel = channel
        self._home = home
        self._running: asyncio.Task[None] | None = None
        self._page_request: asyncio.Future[ledger_pb2.ListCommittedResponse] | None = None
        self._closing = False
        self._problem: str | None = "the ledger service has not told yet what was committed; see that it runs"
        self._notified = metrics.counter("notifications", "Notifications put into an inbox", ("kind",))

    async def __aenter__(self) -> "Intake":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        if self._page_request is not None:
            # Do not wait for a ledger that does not answer. A page that came is written.
            self._page_request.cancel()
        if self._running is not None:
            await asyncio.wait([self._running])

    async def handle(self, _: Event) -> None:
        """An event came. Its content is not used."""
        await self.catch_up()

    async def handle_all(self, _: Sequence[Event]) -> None:
        """Several events came."""
        await self.catch_up()

    async def catch_up(self) -> None:
        """Wait until everything committed before this call is in the inboxes. Raises MeshError.

        All waiting callers share one read, which goes on when a caller is cancelled.
        """
        running = self._running
        if running is not None and not running.done():
            # The running read may have asked for its last page before this call.
            await asyncio.wait([running])
        if self._running is running:
            self._running = asyncio.create_task(self._read())
            self._running.add_done_callback(_noticed)
        assert self._running is not None  # noqa: S101 - made above, or by who waited with us
        await asyncio.shield(self._running)

    async def run(self, every_seconds: float) -> None:
        """Catch up now and then until cancelled, for when NATS is unavailable or an event is lost."""
        while True:
            try:
                await self.catch_up()
            except MeshError as err:
                _log.warning("inboxes.behind", code=code_name(err.code), reason=err.reason)
            await asyncio.sleep(every_seconds)

    async def check(self) -> str | None:
        """For readiness: the last read succeeded."""
        return self._problem

    async def _ask(self, from_block: int) -> ledger_pb2.ListCommittedResponse | None:
        """A page; None when the service ends."""
        if self._closing:
            return None
        self._page_request = asyncio.ensure_future(self._committed.page(from_block))
        try:
            return await self._page_request
        except asyncio.CancelledError:
            if self._closing and self._page_request.cancelled():
                return None
            raise

    async def _read(self) -> None:
        try:
            at = await self._inbox.next_block()
            while (page := await self._ask(at)) is not None and page.next_block > at:
                await self._take(page)
                at = page.next_block
            if page is not None:
                self._problem = None
        except MeshError as err:
            why = code_name(err.code)
            self._problem = f"the ledger service does not tell what was committed ({why}); see that it runs"
            raise

    async def _take(self, page: ledger_pb2.ListCommittedResponse) -> None:
        for transaction in page.transactions:
            if transaction.channel != self._channel:
                raise MeshError.wrong_channel("the ledger service follows another channel")
        notices, identities = await self._announced(page.transactions)
        kept = await self._inbox.keep(notices, identities, page.next_block)
        for kind, count in Counter(one.notice.kind for one in kept).items():
            self._notified.labels(kind).inc(count)
        # Listeners that begin from here on find these in the inbox.
        self._feeds.wake({one.notice.owner for one in kept})

    async def _announced(
        self, transactions: Sequence[events_pb2.TransactionCommitted]
    ) -> tuple[list[Notice], list[Identity]]:
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
                # The next transaction sees what this one changed.
                known[one.address] = identities[one.address] = one
                staff.pop(one.address, None)
                if one.is_staff:
                    staff[one.address] = one
        return notices, [*identities.values()]


def _noticed(task: asyncio.Task[None]) -> None:
    """Mark the error as seen when no caller waits. It is in `check`, and comes again at the next try."""
    if not task.cancelled():
        task.exception()
