"""Fixtures of the gateway's contract tests: `pytest_plugins = ("tests.contract.gateway_fixtures",)`."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.contract import gateway_app as rest
from tests.contract import gateway_calls as calls
from tests.contract.gateway_app import App
from tests.contract.gateway_member import Member, running_member
from tests.unit.gateway.tokens import DpopKey


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    async with running_member(tmp_path) as running:
        running.ledger.register(calls.ENGINE, calls.CLINICIAN, calls.PATIENT, calls.ADMINISTRATOR)
        yield running


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with running_member(tmp_path) as member:
        member.ledger.register(rest.ENGINE, rest.CLINICIAN, rest.PATIENT)
        context = ssl.create_default_context(cadata=member.tls_root.decode())
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            yield App(member, http, DpopKey())
