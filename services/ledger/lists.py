"""Questions to the projection, a page at a time."""

import base64
import binascii
from collections.abc import Sequence
from sqlite3 import Row

import orjson

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from services.ledger.domain.receipts import of_audit_entry
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database

_PAGE = 100
_LARGEST_PAGE = 500

_IDENTITIES = """
    SELECT address, document FROM identity
    WHERE address > ?1 AND (?2 = 0 OR role = ?2) AND (?3 = 0 OR status = ?3) AND (?4 = '' OR home_msp = ?4)
    ORDER BY address LIMIT ?5
"""

# Newest first; without all versions, a record's latest one stands for it.
_RECORDS = """
    SELECT seq, document FROM record AS one
    WHERE patient = ?1 AND (?2 = 0 OR seq < ?2) AND (?3 = '' OR category = ?3)
        AND (?4 OR NOT EXISTS (
            SELECT 1 FROM record AS later
            WHERE later.record_id = one.record_id AND later.version > one.version))
    ORDER BY seq DESC LIMIT ?5
"""

# The document is of the row with the highest epoch: SQLite, "Bare columns in an aggregate query".
_WRITER_KEYS = """
    SELECT patient, document, max(epoch) FROM writer_key
    WHERE writer_msp = ?1 AND patient IN (SELECT value FROM json_each(?2)) GROUP BY patient
"""


class Lists:
    """Reads the projection's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def identities(
        self, request: ledger_pb2.ListIdentitiesRequest
    ) -> ledger_pb2.ListIdentitiesResponse:
        size = _page_size(request.page_size)
        rows = await self._database.rows(
            _IDENTITIES,
            (_place(request.page_token), request.role, request.status, request.home_msp, size + 1),
        )
        return ledger_pb2.ListIdentitiesResponse(
            identities=[state_pb2.IdentityDocument.FromString(row["document"]) for row in rows[:size]],
            next_page_token=_next(rows, size, "address"),
        )

    async def records(self, request: ledger_pb2.ListRecordsRequest) -> ledger_pb2.ListRecordsResponse:
        size = _page_size(request.page_size)
        rows = await self._database.rows(
            _RECORDS,
            (
                request.patient,
                _number(request.page_token),
                request.category,
                request.all_versions,
                size + 1,
            ),
        )
        return ledger_pb2.ListRecordsResponse(
            records=[state_pb2.RecordVersion.FromString(row["document"]) for row in rows[:size]],
            next_page_token=_next(rows, size, "seq"),
        )

    async def audit(self, request: ledger_pb2.ListAuditRequest) -> ledger_pb2.ListAuditResponse:
        size = _page_size(request.page_size)
        rows = await self._database.rows(
            "SELECT seq, block, entry FROM audit WHERE about = ? AND seq > ? ORDER BY seq LIMIT ?",
            (request.patient, _number(request.page_token), size + 1),
        )
        return ledger_pb2.ListAuditResponse(
            entries=[
                ledger_pb2.CommittedAuditEntry(
                    entry=state_pb2.AuditEntry.FromString(row["entry"]), block=row["block"]
                )
                for row in rows[:size]
            ],
            next_page_token=_next(rows, size, "seq"),
        )

    async def latest_record(self, record_id: str) -> state_pb2.RecordVersion | None:
        row = await self._database.row(
            "SELECT document FROM record WHERE record_id = ? ORDER BY version DESC LIMIT 1", (record_id,)
        )
        return state_pb2.RecordVersion.FromString(row["document"]) if row else None

    async def writer_keys(self, writer_msp: str, patients: Sequence[str]) -> dict[str, state_pb2.WriterKey]:
        """Of the highest epoch, by patient; a patient without one is left out."""
        rows = await self._database.rows(_WRITER_KEYS, (writer_msp, orjson.dumps(list(patients)).decode()))
        return {row["patient"]: state_pb2.WriterKey.FromString(row["document"]) for row in rows}

    async def receipt(self, command_id: str, signer: str) -> ledger_pb2.Receipt | None:
        row = await self._database.row(
            "SELECT block, entry FROM audit WHERE command_id = ? AND signer = ?", (command_id, signer)
        )
        return of_audit_entry(state_pb2.AuditEntry.FromString(row["entry"]), row["block"]) if row else None


def _page_size(asked: int) -> int:
    return min(asked or _PAGE, _LARGEST_PAGE)


def _next(rows: Sequence[Row], size: int, column: str) -> str:
    """The token of the next page: where this one ended; empty after the last."""
    if len(rows) <= size:
        return ""
    return base64.urlsafe_b64encode(str(rows[size - 1][column]).encode()).decode()


def _place(token: str) -> str:
    try:
        return base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise MeshError(
            code_pb2.CODE_INVALID, "not a token of this list; start again without one", "page_token"
        ) from exc


def _number(token: str) -> int:
    place = _place(token) or "0"
    if not place.isdigit():
        raise MeshError(
            code_pb2.CODE_INVALID, "not a token of this list; start again without one", "page_token"
        )
    return int(place)
