"""What the README shows of Python runs as it stands, on a network such as `make demo` leaves."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from cbmdhi.client import Client
from tests.support.mesh import People
from tools.docs.pages import ROOT, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_readmes_python_writes_a_record_and_reads_it_back(
    people: People,
    patient: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wallets = tmp_path / ".devnet" / "wallets"
    wallets.mkdir(parents=True)
    for name, client in {"patient-01a20407": patient, "mercy-engine": people.engine}.items():
        (wallets / name).symlink_to(client.wallet.folder)
    monkeypatch.chdir(tmp_path)
    [example] = [block for block in Page(ROOT / "README.md").blocks if block.language == "python"]
    compiled = compile(example.text, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, {})  # noqa: S307 (the README is ours)
    assert inspect.iscoroutine(running)
    await running
    placed, read = capsys.readouterr().out.splitlines()
    tx_id, cid = placed.split()
    assert len(tx_id) == 64
    assert cid.startswith("bafk")
    assert read == "Pulse 72"
