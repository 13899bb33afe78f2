"""Lists of records: all of it for the patient, for anybody else what the channel lets them search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ExplainItem, RecordVersion, Verdict
from cbmdhi.gateway.v1.gateway_pb2 import ListRecordsRequest, ListRecordsResponse
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import categories
from services.gateway.domain.paging import PagePosition, PageTokens
from services.gateway.domain.session import Session
from services.runtime.errors import MeshError

_PAGE = 100
_LARGEST_PAGE = 500
_SMALLEST_SCAN = 50
_SCANNED_PAGES = 500


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def records(self, request: ledger_pb2.ListRecordsRequest) -> ledger_pb2.ListRecordsResponse: ...

    async def explain(self, items: Sequence[ExplainItem]) -> list[Verdict]: ...


class Search:
    """Pages of what a caller may see. No total, size of a page or token says what else is there."""

    def __init__(self, ledger: Ledger, tokens: PageTokens) -> None:
        self._ledger = ledger
        self._tokens = tokens

    async def records(self, request: ListRecordsRequest, session: Session) -> ListRecordsResponse:
        """One page. Raises MeshError."""
        _check(request, session)
        size = min(request.page_size or _PAGE, _LARGEST_PAGE)
        if request.patient == session.address:
            page = await self._ledger.records(_question(request, size, request.page_token))
            return ListRecordsResponse(records=page.records, next_page_token=page.next_page_token)
        question = (
            session.address,
            request.patient,
            request.category,
            str(request.all_versions),
            request.purpose,
        )
        position = self._tokens.open(request.page_token, *question)
        # One more than the page: there is a next page only if there is something on it.
        found = await self._permitted(request, session, position, size + 1)
        following = self._tokens.seal(found[size - 1][1], *question) if len(found) > size else ""
        return ListRecordsResponse(records=[record for record, _ in found[:size]], next_page_token=following)

    async def _permitted(
        self, request: ListRecordsRequest, session: Session, position: PagePosition, wanted: int
    ) -> list[tuple[RecordVersion, PagePosition]]:
        """At most `wanted` records that the caller may search, each with the position behind it."""
        found: list[tuple[RecordVersion, PagePosition]] = []
        for _ in range(_SCANNED_PAGES):
            scanned = min(_LARGEST_PAGE, position.skip + max(_SMALLEST_SCAN, 2 * wanted))
            page = await self._ledger.records(_question(request, scanned, position.ledger_token))
            ahead = list(page.records)[position.skip :]
            verdicts = await self._explained(ahead, request, session)
            for offset, (record, verdict) in enumerate(zip(ahead, verdicts, strict=True)):
                if verdict.code == code_pb2.CODE_OK:
                    found.append((record, PagePosition(position.ledger_token, position.skip + offset + 1)))
                    if len(found) == wanted:
                        return found
            if not page.next_page_token:
                return found
            position = PagePosition(page.next_page_token, 0)
        raise MeshError(
            code_pb2.CODE_TOO_LARGE, "too many records to search at once: name a category", "category"
        )

    async def _explained(
        self, records: Sequence[RecordVersion], request: ListRecordsRequest, session: Session
    ) -> Sequence[Verdict]:
        if not records:
            return ()
        return await self._ledger.explain(
            [
                ExplainItem(
                    principal=session.address,
                    action="history" if request.all_versions else "search",
                    record_id=record.record_id,
                    version=record.version,
                    purpose=request.purpose,
                )
                for record in records
            ]
        )


def _check(request: ListRecordsRequest, session: Session) -> None:
    if not addresses.is_address(request.patient):
        raise MeshError(code_pb2.CODE_INVALID, "not an address: cb1 and 32 characters of base32", "patient")
    if request.category and request.category not in categories.CATEGORIES:
        raise MeshError(code_pb2.CODE_INVALID, "not a category of the closed list", "category")
    if request.purpose not in categories.PURPOSES and not (
        request.patient == session.address and not request.purpose
    ):
        purposes = ", ".join(sorted(categories.PURPOSES))
        raise MeshError(code_pb2.CODE_INVALID, f"say for what: one of {purposes}", "purpose")


def _question(request: ListRecordsRequest, size: int, token: str) -> ledger_pb2.ListRecordsRequest:
    return ledger_pb2.ListRecordsRequest(
        patient=request.patient,
        category=request.category,
        all_versions=request.all_versions,
        page_size=size,
        page_token=token,
    )
