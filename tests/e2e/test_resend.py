"""A client that dies mid-stream sends everything again, under the same ids: nothing doubles."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.waiting import until
from tests.e2e.conftest import People, observation

pytestmark = pytest.mark.asyncio(loop_scope="session")

RECORDS = 150
KILLED_AFTER = 20


@pytest.mark.timeout(240)
async def test_a_client_killed_mid_stream_resends_all_and_every_receipt_is_found_again(
    people: People, tmp_path: Path
) -> None:
    async with await people.new_patient() as patient:
        engine = people.engine
        prepared = [engine.records.prepare(observation(patient)) for _ in range(RECORDS)]
        file = tmp_path / "submissions"
        file.write_bytes(
            gateway_pb2.IngestRequest(items=[entry.item for entry in prepared]).SerializeToString()
        )
        seen = await _killed_after(KILLED_AFTER, engine.wallet.folder, file)
        assert KILLED_AFTER <= len(seen) < RECORDS

        written = [entry async for entry in engine.records.send(prepared)]
        assert len(written) == RECORDS
        assert all(entry.ok for entry in written)
        names = {entry.record.record_id: entry.item.submission_id for entry in prepared}
        again = {
            names[entry.record.record_id] for entry in written if entry.receipt.receipt.already_committed
        }
        assert seen <= again

        async def all_known() -> bool:
            return len(await patient.records.list()) >= RECORDS

        await until(all_known, "the projection has the records")
        listed = await patient.records.list()
        assert {entry.record_id for entry in listed} == {entry.record.record_id for entry in prepared}
        assert len(listed) == RECORDS
        writes = [entry.entry for entry in await patient.trail.audit() if entry.entry.action == "write"]
        assert len(writes) == RECORDS
        first = {entry.record.record_id: entry.receipt.receipt.tx_id for entry in written}
        assert {entry.record_id: entry.tx_id for entry in writes} == first


async def _killed_after(receipts: int, wallet: Path, file: Path) -> set[str]:
    """Run the engine until it has reported so many receipts, and kill it; those that it reported."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.resending_engine", str(wallet), str(file)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    if process.stdout is None:
        raise RuntimeError("the engine has no output")
    seen: set[str] = set()
    try:
        while len(seen) < receipts and (line := await process.stdout.readline()):
            seen.add(line.decode().strip())
    finally:
        process.kill()
        await process.wait()
    return seen
