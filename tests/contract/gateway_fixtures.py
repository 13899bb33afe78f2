"""Fixtures of the gateway's contract tests: `pytest_plugins = ("tests.contract.gateway_fixtures",)`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract import gateway_calls as calls
from tests.contract.gateway_app import App, running_app
from tests.contract.gateway_member import Member, running_member


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    async with running_member(tmp_path) as running:
        running.ledger.register(calls.ENGINE, calls.CLINICIAN, calls.PATIENT, calls.ADMINISTRATOR)
        yield running


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(tmp_path) as running:
        yield running
