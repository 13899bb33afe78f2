"""Queries to the projection, a page at a time."""

import base64
import binascii
from collections.abc import Sequence
from sqlite3 import Row

from cbmdhi.command.v1 import state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import cid as cids
from services.ledger.channel.clock import EPOCH_SECONDS
from services.ledger.domain.receipts import Command, of_audit_entry
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database, json_list

_PAGE = 100
_LARGEST_PAGE = 500
_LONGEST_NUMBER = 18

_IDENTITIES = """
    SELECT address, document FROM identity
    WHERE address > ?1 AND (?2 = 0 OR role = ?2) AND (?3 = 0 OR status = ?3) AND (?4 = '' OR home_msp = ?4)
    ORDER BY address LIMIT ?5
"""

# Newest first, along the links from ?2, or from the newest when that is NULL. The walk gives a row when it is
# asked for one: LIMIT ends it. Without all versions, a record's latest one stands for it.
_RECORDS = """
    WITH RECURSIVE walk (seq, previous) AS (
        SELECT seq, previous FROM record WHERE seq = coalesce(
            ?2, (SELECT record FROM newest WHERE person = (SELECT id FROM person WHERE address = ?1)))
        UNION ALL
        SELECT one.seq, one.previous FROM walk CROSS JOIN record AS one ON one.seq = walk.previous
    )
    SELECT one.seq, one.document FROM walk CROSS JOIN record AS one ON one.seq = walk.seq
    WHERE one.record_id IS NOT NULL AND (?3 = '' OR one.category = ?3)
        AND (?4 OR NOT EXISTS (
            SELECT 1 FROM record AS later
            WHERE later.record_id = one.record_id AND later.version > one.version))
    LIMIT ?5
"""

# Oldest first, the ?3 entries behind the ?2th: from the first mark that is far enough, or else from the
# newest, along the links back to there. The marks' condition is that of their index, to the letter.
_AUDIT = """
    WITH RECURSIVE whom (id) AS (SELECT id FROM person WHERE address = ?1),
    walk (seq, nth, previous) AS (
        SELECT seq, nth, previous FROM audit WHERE seq = coalesce(
            (SELECT mark.seq FROM audit AS mark
                WHERE mark.about = (SELECT id FROM whom) AND mark.nth >= ?2 + ?3 AND mark.nth % 32 = 0
                ORDER BY mark.nth LIMIT 1),
            (SELECT entry FROM newest WHERE person = (SELECT id FROM whom)))
        UNION ALL
        SELECT one.seq, one.nth, one.previous FROM walk CROSS JOIN audit AS one ON one.seq = walk.previous
        WHERE one.nth > ?2
    )
    SELECT one.seq, one.block, one.entry FROM walk CROSS JOIN audit AS one ON one.seq = walk.seq
    WHERE one.nth > ?2 AND one.nth <= ?2 + ?3 ORDER BY one.nth
"""

# The document is of the row with the highest version: SQLite, "Bare columns in an aggregate query".
_LATEST = """
    SELECT record_id, document, max(version) FROM record
    WHERE record_id IN (SELECT value FROM json_each(?)) GROUP BY record_id
"""

# The document is of the row with the highest epoch: SQLite, "Bare columns in an aggregate query".
_WRITER_KEYS = """
    SELECT address, document, max(epoch) FROM person CROSS JOIN writer_key ON patient = id
    WHERE address IN (SELECT value FROM json_each(?2)) AND writer_msp = ?1 GROUP BY address
"""

# Where the page behind a token begins; nothing when the token is not of this person's list.
_RECORD_PLACE = """
    SELECT previous FROM record WHERE seq = ? AND patient = (SELECT id FROM person WHERE address = ?)
"""
_AUDIT_PLACE = "SELECT nth FROM audit WHERE seq = ? AND about = (SELECT id FROM person WHERE address = ?)"

# Of the pairs (command id, signer) in a JSON list, those that are there.
_RECEIPTS = """
    SELECT command_id, person.address AS signer, block, entry FROM json_each(?) AS asked
    CROSS JOIN person ON person.address = asked.value ->> 1
    CROSS JOIN audit ON command_id = asked.value ->> 0 AND audit.signer = person.id
"""

# Time and writing order agree but for the clocks of the members: it is never far ahead of what is committed.
# Minutes are told also while nothing else is: what waits for its end must not wait for somebody's command.
_NEWEST_ENTRY = """
    SELECT (SELECT entry FROM audit ORDER BY seq DESC LIMIT 1) AS entry,
        (SELECT number FROM newest_epoch) AS epoch
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
        start = await self._begin(_RECORD_PLACE, request.patient, request.page_token)
        rows = await self._database.rows(
            _RECORDS, (request.patient, start, request.category, request.all_versions, size + 1)
        )
        return ledger_pb2.ListRecordsResponse(
            records=[state_pb2.RecordVersion.FromString(row["document"]) for row in rows[:size]],
            next_page_token=_next(rows, size, "seq"),
        )

    async def audit(self, request: ledger_pb2.ListAuditRequest) -> ledger_pb2.ListAuditResponse:
        size = _page_size(request.page_size)
        behind = await self._begin(_AUDIT_PLACE, request.patient, request.page_token)
        rows = await self._database.rows(_AUDIT, (request.patient, behind or 0, size + 1))
        return ledger_pb2.ListAuditResponse(
            entries=[
                ledger_pb2.CommittedAuditEntry(
                    entry=state_pb2.AuditEntry.FromString(row["entry"]), block=row["block"]
                )
                for row in rows[:size]
            ],
            next_page_token=_next(rows, size, "seq"),
        )

    async def latest_records(self, record_ids: Sequence[str]) -> list[state_pb2.RecordVersion | None]:
        """The latest version of each, in order; None: there is none."""
        rows = await self._database.rows(_LATEST, (json_list(record_ids),))
        found = {row["record_id"]: state_pb2.RecordVersion.FromString(row["document"]) for row in rows}
        return [found.get(record_id) for record_id in record_ids]

    async def writer_keys(self, writer_msp: str, patients: Sequence[str]) -> dict[str, state_pb2.WriterKey]:
        """The writer keys with the highest epoch, by patient. A patient without one is left out."""
        rows = await self._database.rows(_WRITER_KEYS, (writer_msp, json_list(patients)))
        return {row["address"]: state_pb2.WriterKey.FromString(row["document"]) for row in rows}

    async def receipts(self, commands: Sequence[Command]) -> dict[Command, ledger_pb2.Receipt]:
        """The receipts of commands. A command that is not known here is left out."""
        rows = await self._database.rows(_RECEIPTS, (json_list(commands),))
        return {
            (row["command_id"], row["signer"]): of_audit_entry(
                state_pb2.AuditEntry.FromString(row["entry"]), row["block"]
            )
            for row in rows
        }

    async def committed_contents(
        self, batches: Sequence[ledger_pb2.HeldBatch]
    ) -> ledger_pb2.GetCommittedContentsResponse:
        """What the channel names of batches.

        Decisions are read before names: since a block is written here as a whole, the effect of a decided
        command is in what is read after it.
        """
        newest = await self._database.row(_NEWEST_ENTRY)
        asked = [(one.command_id, one.signer) for batch in batches for one in batch.commands]
        decided = await self.receipts(asked) if asked else {}
        named = await self._named([batch.root_cid for batch in batches])
        return ledger_pb2.GetCommittedContentsResponse(
            channel_time_ms=_time_ms(newest) if newest else 0,
            batches=[
                ledger_pb2.CommittedBatch(
                    cids=named.get(batch.root_cid, ()),
                    decided=[(one.command_id, one.signer) in decided for one in batch.commands],
                )
                for batch in batches
            ],
        )

    async def _named(self, root_cids: Sequence[str]) -> dict[str, list[str]]:
        """CIDs on the channel, by the root of their batch; evidence is its own root."""
        named: dict[str, list[str]] = {}
        blobs = [name for name in root_cids if not _is_batch(name)]
        # Records name a root by its digest, and a writer may have made a single record its own root.
        roots: dict[bytes, list[str]] = {}
        for name in root_cids:
            roots.setdefault(cids.digest(name), []).append(name)
        marks = ",".join("?" * len(roots))
        rows = await self._database.rows(
            f"SELECT root, document FROM record WHERE root IN ({marks})",  # noqa: S608 — marks
            tuple(roots),
        )
        for row in rows:
            record = state_pb2.RecordVersion.FromString(row["document"])
            for name in roots[row["root"]]:
                named.setdefault(name, []).append(record.content.cid)
        rows = await self._database.rows(
            "SELECT DISTINCT evidence FROM identity"
            " WHERE evidence <> '' AND evidence IN (SELECT value FROM json_each(?))",
            (json_list(blobs),),
        )
        for row in rows:
            named.setdefault(row["evidence"], []).append(row["evidence"])
        return named

    async def entries(self, command_id: str) -> list[state_pb2.AuditEntry]:
        """The entries of a command id, one for each signer."""
        rows = await self._database.rows(
            "SELECT entry FROM audit WHERE command_id = ? LIMIT ?", (command_id, _LARGEST_PAGE)
        )
        return [state_pb2.AuditEntry.FromString(row["entry"]) for row in rows]

    async def _begin(self, sql: str, person: str, token: str) -> int | None:
        """The value of `sql` for the row that ended the previous page; None for the first page."""
        if not token:
            return None
        row = await self._database.row(sql, (_number(token), person))
        if row is None:
            raise _not_a_token()
        return int(row[0])


def _time_ms(newest: Row) -> int:
    """The time of the newest entry or epoch."""
    entry_ms = state_pb2.AuditEntry.FromString(newest["entry"]).at_ms if newest["entry"] else 0
    return max(entry_ms, (newest["epoch"] or 0) * EPOCH_SECONDS * 1000)


def _is_batch(root_cid: str) -> bool:
    """Raises MeshError INVALID."""
    try:
        return cids.codec(cids.to_bytes(root_cid)) == cids.DAG_CBOR
    except ValueError as exc:
        raise MeshError.invalid("not a CIDv1 of raw or dag-cbor with SHA-256", "root_cid") from exc


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
        raise _not_a_token() from exc


def _number(token: str) -> int:
    place = _place(token)
    if not place.isascii() or not place.isdigit() or len(place) > _LONGEST_NUMBER:
        raise _not_a_token()
    return int(place)


def _not_a_token() -> MeshError:
    return MeshError.invalid("not a token of this list; start again without one", "page_token")
