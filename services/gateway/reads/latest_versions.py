"""Which version of a record is the latest: told to whom the channel lets read it, or who breaks the glass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ExplainItem, RecordVersion, Verdict
from cbmdhi.protocol import categories
from services.gateway.domain.session import Session
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.refusal_quota import RefusalQuotas

# What an access to the latest version may be for; what is asked for most comes first.
_READINGS = tuple(product(("read", "export"), ("TREAT", *sorted(categories.PURPOSES - {"TREAT"}))))


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def latest_versions(self, record_ids: Sequence[str]) -> list[RecordVersion | None]: ...

    async def explain(self, items: Sequence[ExplainItem]) -> list[Verdict]: ...


class LatestVersions:
    """What is not there, another patient's, and not the caller's to read is answered alike, after the same
    questions, and is charged as a refusal."""

    def __init__(self, ledger: Ledger, refused: RefusalQuotas, metrics: GatewayMetrics) -> None:
        self._ledger = ledger
        self._refused = refused
        self._for_break_glass = metrics.latest_for_break_glass

    async def of(
        self, patient: str, record_ids: Sequence[str], session: Session, *, for_break_glass: bool = False
    ) -> list[int]:
        """The latest version of each record of a patient, in order; 0: none is told. Raises MeshError.

        for_break_glass  by a clinician, who may break the glass for any record and has to name its version
        """
        quota = self._refused.of(session.address)
        quota.check()
        found = [
            record.version if record is not None and record.patient == patient else 0
            for record in await self._ledger.latest_versions(record_ids)
        ]
        if session.address == patient:
            charged = found.count(0)
        elif for_break_glass and session.role == "clinician":
            # Nobody need have consented, and no entry of the trail tells of it: so many and no more.
            self._for_break_glass.inc(len(found) - found.count(0))
            charged = len(found)
        else:
            found = await self._readable(record_ids, found, session)
            charged = found.count(0)
        quota.note(code_pb2.CODE_FORBIDDEN, charged)
        return found

    async def _readable(
        self, record_ids: Sequence[str], versions: Sequence[int], session: Session
    ) -> list[int]:
        asked = list(zip(record_ids, versions, strict=True))
        told: dict[str, int] = {}
        # Few need more than the first question.
        for readings in (_READINGS[:1], _READINGS[1:]):
            left = [one for one in asked if one[0] not in told]
            items = [item for one in left for item in _items(one, readings, session)]
            verdicts = await self._ledger.explain(items) if items else []
            told |= {
                item.record_id: item.version
                for item, verdict in zip(items, verdicts, strict=True)
                if verdict.code == code_pb2.CODE_OK
            }
        return [version and told.get(record_id, 0) for record_id, version in asked]


def _items(
    record: tuple[str, int], readings: Iterable[tuple[str, str]], session: Session
) -> Iterable[ExplainItem]:
    record_id, version = record
    for action, purpose in readings:
        yield ExplainItem(
            principal=session.address,
            action=action,
            record_id=record_id,
            version=version or 1,
            purpose=purpose,
        )
