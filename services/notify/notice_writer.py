"""Writes notices into the tables of `schema`, each once. Call it within a transaction."""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import NamedTuple

from services.notify.notices import Notice, Notification
from services.notify.rows import notification, short
from services.runtime.sqlite import json_list, write_rows

_FIELDS = Notice._fields

_what = itemgetter(*map(_FIELDS.index, ("tx_id", "command_id", "kind", "owner", "actor")))
"""What makes a notice the same as another."""

_names = itemgetter(
    *map(_FIELDS.index, ("owner", "kind", "actor", "actor_msp", "category", "purpose", "subject"))
)

_INSERT = (
    "INSERT INTO notices (notification_id, owner, previous, transaction_id, kind, later_ms, "
    "actor, actor_msp, record_id, version, category, purpose, consent_id, code, command_id, subject)"
)


_REMOVED_AT_ONCE = 2_000


class _Transaction(NamedTuple):
    number: int
    at_ms: int


_Transactions = dict[tuple[int, str], _Transaction]
"""By block and id."""


def keep(db: sqlite3.Connection, notices: Collection[Notice], now_us: int) -> list[Notification]:
    """Write notices; gives the new ones with their ids, which follow all earlier ids and `now_us`.

    An inbox that was put back from a copy, or is built anew from the channel, tells again what it has lost.
    Their ids are above all that were given before, so whoever goes on from such an id hears of them.
    """
    there = _there(db, notices)
    fresh: list[Notice] = []
    for notice in notices:
        what = _what(notice)
        if what not in there:
            there.add(what)
            fresh.append(notice)
    if not fresh:
        return []
    after = db.execute("SELECT coalesce(max(notification_id), 0) FROM notices").fetchone()[0]
    first = max(after, now_us) + 1
    kept = [Notification(number, notice, False) for number, notice in enumerate(fresh, start=first)]
    _put_notices(db, kept, _put_transactions(db, kept))
    return kept


def acknowledge(db: sqlite3.Connection, owner: str, ids: Iterable[int]) -> int:
    """Mark as seen; gives how many were unseen. Ids of other inboxes change nothing."""
    listed = json_list(ids)
    inbox = db.execute(
        "SELECT owner, seen_to FROM names JOIN inboxes ON owner = name_id WHERE name = ?", (owner,)
    ).fetchone()
    if inbox is None:
        return 0
    number, seen_to = inbox
    latest = db.execute(
        "SELECT coalesce(max(notification_id), 0) FROM notices "
        "WHERE notification_id IN (SELECT value FROM json_each(?)) AND owner = ?",
        (listed, number),
    ).fetchone()[0]
    if latest > seen_to:
        # Older ones were unseen because they were newer than `seen_to`. Now each needs a row.
        db.execute(
            "INSERT INTO left_unseen (notification_id, owner) "
            "WITH RECURSIVE chain (id) AS (VALUES (?) UNION ALL "
            "SELECT previous FROM chain JOIN notices ON notification_id = id WHERE previous > ?) "
            "SELECT id, ? FROM chain",
            (latest, seen_to, number),
        )
        db.execute("UPDATE inboxes SET seen_to = ? WHERE owner = ?", (latest, number))
    return db.execute(
        "DELETE FROM left_unseen WHERE owner = ? AND notification_id IN (SELECT value FROM json_each(?))",
        (number, listed),
    ).rowcount


def remove_some(db: sqlite3.Connection, before_ms: int) -> int:
    """Remove some of the oldest notices from before that time; gives how many.

    The newest of all stays, since new ids follow it.
    """
    oldest = db.execute(
        "SELECT notification_id, at_ms FROM notices JOIN transactions USING (transaction_id) "
        "WHERE notification_id < (SELECT max(notification_id) FROM notices) "
        "ORDER BY notification_id LIMIT ?",
        (_REMOVED_AT_ONCE,),
    ).fetchall()
    gone = [number for number, _ in takewhile(lambda row: row[1] < before_ms, oldest)]
    if gone:
        up_to = (gone[-1],)
        db.execute("DELETE FROM left_unseen WHERE notification_id <= ?", up_to)
        db.execute("DELETE FROM notices WHERE notification_id <= ?", up_to)
        db.execute(
            "DELETE FROM transactions WHERE last <= ? AND transaction_id IN "
            "(SELECT transaction_id FROM transactions ORDER BY transaction_id LIMIT ?)",
            (*up_to, _REMOVED_AT_ONCE),
        )
    return len(gone)


def _there(db: sqlite3.Connection, notices: Iterable[Notice]) -> set[tuple[str, ...]]:
    """The notices that their transactions told before: some only if an event or its next part comes again."""
    places = {(notice.block, notice.tx_id) for notice in notices}
    rows = db.execute(
        "SELECT notifications.* FROM transactions CROSS JOIN notifications "
        "ON notification_id BETWEEN first AND last AND notifications.tx_id = transactions.tx_id "
        "WHERE transactions.block IN (SELECT value FROM json_each(?)) "
        "AND +transactions.tx_id IN (SELECT value FROM json_each(?))",
        (json_list({block for block, _ in places}), json_list({tx_id for _, tx_id in places})),
    )
    return {_what(notification(row).notice) for row in rows}


def _put_transactions(db: sqlite3.Connection, kept: Sequence[Notification]) -> _Transactions:
    """A row for each transaction with the ids of its notices; another row if it has told some before."""
    last = {(one.notice.block, one.notice.tx_id): one.notification_id for one in kept}
    number = db.execute("SELECT coalesce(max(transaction_id), 0) FROM transactions").fetchone()[0]
    transactions: _Transactions = {}
    rows: list[tuple[int | str, ...]] = []
    for first, notice, _ in kept:
        place = block, tx_id = notice.block, notice.tx_id
        if place not in transactions:
            number += 1
            transactions[place] = _Transaction(number, notice.at_ms)
            rows.append((number, tx_id, block, notice.at_ms, first, last[place]))
    write_rows(db, "INSERT INTO transactions (transaction_id, tx_id, block, at_ms, first, last)", rows)
    return transactions


def _put_notices(db: sqlite3.Connection, kept: Iterable[Notification], transactions: _Transactions) -> None:
    numbers = _numbers(db, {name for one in kept for name in _names(one.notice)})
    owners = {numbers[one.notice.owner] for one in kept}
    newest = dict[int, int](
        db.execute(
            "SELECT owner, newest FROM inboxes WHERE owner IN (SELECT value FROM json_each(?))",
            (json_list(owners),),
        ).fetchall()
    )
    rows: list[tuple[int | str | bytes, ...]] = []
    for notification_id, notice, _ in kept:
        owner, kind, actor, actor_msp, category, purpose, subject = map(numbers.__getitem__, _names(notice))
        transaction = transactions[notice.block, notice.tx_id]
        rows.append(
            (
                notification_id,
                owner,
                newest.get(owner, 0),
                transaction.number,
                kind,
                notice.at_ms - transaction.at_ms,
                actor,
                actor_msp,
                short(notice.record_id),
                notice.version,
                category,
                purpose,
                short(notice.consent_id),
                notice.code,
                short(notice.command_id),
                subject,
            )
        )
        newest[owner] = notification_id
    write_rows(db, _INSERT, rows)
    write_rows(
        db,
        "INSERT INTO inboxes (owner, newest, seen_to)",
        [(owner, last, 0) for owner, last in sorted(newest.items())],
        "ON CONFLICT (owner) DO UPDATE SET newest = excluded.newest",
    )


def _numbers(db: sqlite3.Connection, names: Collection[str]) -> dict[str, int]:
    """The number of each name. A new name gets one."""
    known = _known(db, names)
    unknown = [(name,) for name in names if name not in known]
    if not unknown:
        return known
    write_rows(db, "INSERT INTO names (name)", unknown)
    return known | _known(db, [name for (name,) in unknown])


def _known(db: sqlite3.Connection, names: Collection[str]) -> dict[str, int]:
    rows = db.execute(
        "SELECT name, name_id FROM names WHERE name IN (SELECT value FROM json_each(?))", (json_list(names),)
    )
    return dict(rows.fetchall())
