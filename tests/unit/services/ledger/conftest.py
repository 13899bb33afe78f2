"""What tests of the ledger service share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ledger.projection.schema import MIGRATIONS
from services.runtime.sqlite import Database
from tests.support.fakes.fabric_channel import World
from tests.support.fakes.projection import Book
from tests.support.fakes.projection_followers import Service, Stream


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    async with Database(tmp_path / "projection.db", MIGRATIONS) as database:
        yield Book(database)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
async def service(world: World, stream: Stream, tmp_path: Path) -> AsyncIterator[Service]:
    async with Service(world, stream, tmp_path / "projection.db") as service:
        yield service
