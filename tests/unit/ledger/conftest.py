"""What tests of the projection share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ledger.schema import MIGRATIONS
from services.runtime.sqlite import Database
from tests.unit.ledger.book import Book


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    async with Database(tmp_path / "projection.db", MIGRATIONS) as database:
        yield Book(database)
