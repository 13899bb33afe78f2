"""The README's Python, as it stands there, where nothing but the SDK is installed; on a real network."""

from __future__ import annotations

import asyncio

import pytest

from cbmdhi.client import Client
from tests.install.conftest import Environment
from tests.support.mesh import People, network, patient, people
from tools.docs.pages import ROOT, Page

__all__ = ["network", "patient", "people"]

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

# As `python -m asyncio` takes it: `async with` outside of any function.
_RUN = """
import ast, asyncio, sys
running = eval(compile(sys.argv[1], "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
asyncio.run(running)
"""


async def test_the_readmes_python_runs_where_the_wheel_is_installed(
    installed: Environment, people: People, patient: Client
) -> None:
    wallets = installed.folder / ".devnet" / "wallets"
    wallets.mkdir(parents=True)
    for name, client in {"patient-01a20407": patient, "mercy-engine": people.engine}.items():
        (wallets / name).symlink_to(client.wallet.folder)
    [example] = [block for block in Page(ROOT / "README.md").blocks if block.language == "python"]

    printed = await asyncio.to_thread(installed.done, "python", "-c", _RUN, example.text)

    placed, read = printed.splitlines()
    transaction_id, cid = placed.split()
    assert len(transaction_id) == 64
    assert cid.startswith("bafk")
    assert read == "Pulse 72"
