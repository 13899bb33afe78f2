"""Converts notices to and from rows."""

import re
from sqlite3 import Row
from typing import Any
from uuid import UUID

from services.notify.notices import Notice, Notification

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def notification(row: Row) -> Notification:
    """The notification of a row of the view `notifications`."""
    notice = Notice(*(_long(row[name]) for name in Notice._fields))
    return Notification(row["notification_id"], notice, bool(row["acknowledged"]))


def short(value: str) -> str | bytes:
    """For a column of ids: a UUID takes 16 bytes instead of 36."""
    return bytes.fromhex(value.replace("-", "")) if _UUID.fullmatch(value) else value


def _long(value: Any) -> Any:
    return str(UUID(bytes=value)) if isinstance(value, bytes) else value
