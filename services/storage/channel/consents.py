"""Consent and delegation as they are now. A decision that would not be made again now releases no key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ExplainItem, Verdict
from services.runtime.batched_lookup import BatchedLookup
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from services.runtime.ttl_cache import TtlCache
from services.storage.channel.ledger import Ledger
from services.storage.domain.decision import ReadGrant


class Consents:
    """`async with Consents(source, metrics)`: the questions of many readers go out in batches.

    No answer is cached.
    """

    def __init__(self, source: Ledger, metrics: Metrics) -> None:
        self._source = source
        nothing: TtlCache[ReadGrant, Verdict] = TtlCache(1)
        self._lookup = BatchedLookup(
            self._ask, nothing, metrics, "consents", lasting=lambda _grant, _verdict: False
        )

    async def __aenter__(self) -> Consents:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._lookup.close()

    async def refusals(self, grants: Iterable[ReadGrant]) -> dict[ReadGrant, MeshError]:
        """The grants that would be refused now, or whose decision is not known, each with the reason.

        A break-glass grant needs no consent.
        """
        answers = await self._lookup.many(grant for grant in grants if grant.action)
        return {grant: answer for grant, answer in answers.items() if isinstance(answer, MeshError)}

    async def _ask(self, grants: Sequence[ReadGrant]) -> list[Verdict | MeshError]:
        items = [
            ExplainItem(
                principal=grant.actor,
                action=grant.action,
                record_id=grant.record_id,
                version=grant.version,
                purpose=grant.purpose,
                delegation=grant.delegation,
            )
            for grant in grants
        ]
        return [
            verdict
            if verdict.code == code_pb2.CODE_OK
            else MeshError.forbidden(f"it was permitted and is not any more: {verdict.reason}")
            for verdict in await self._source.explain(items)
        ]
