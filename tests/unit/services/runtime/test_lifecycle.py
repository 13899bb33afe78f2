"""A service as a process: start, readiness, signals, crashes, the order of the end."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.pki import Consortium
from tests.support.waiting import free_port, until


class Program:
    def __init__(self, folder: Path, consortium: Consortium, behaviour: str, port: int) -> None:
        self.trail_file = folder / "trail"
        self.ops = f"http://127.0.0.1:{(ops_port := free_port())}"
        tls = consortium.tls("program")
        members = "".join(
            f'[[tls.members]]\nmsp_id = "{member.msp_id}"\nca_file = "{member.ca_file}"\n'
            for member in tls.members
        )
        self.config = folder / f"program-{port}.toml"
        self.config.write_text(
            'organisation = "mercy"\nmsp_id = "MercyMSP"\nchannel = "cbmdhi"\ndrain_seconds = 1\n'
            f'listen_address = "127.0.0.1:{port}"\nmetrics_address = "127.0.0.1:{ops_port}"\n'
            f'behaviour = "{behaviour}"\ntrail_file = "{self.trail_file}"\n'
            f'[tls]\ncertificate_file = "{tls.certificate_file}"\nkey_file = "{tls.key_file}"\n{members}',
            encoding="utf-8",
        )
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.unit.services.runtime.program",
            "--config",
            str(self.config),
            stdout=asyncio.subprocess.PIPE,
        )

    def break_ledger(self) -> None:
        Path(f"{self.trail_file}.broken").touch()

    async def get(self, path: str) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession() as http, http.get(self.ops + path) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def is_ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def end(self) -> tuple[int | None, list[dict[str, Any]]]:
        """Exit status and log lines, once it has ended."""
        out, _ = await asyncio.wait_for(self.process.communicate(), 20)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]

    def trail(self) -> list[str]:
        return self.trail_file.read_text(encoding="utf-8").splitlines() if self.trail_file.exists() else []


Start = Callable[..., Awaitable[Program]]


@pytest.fixture
async def start(tmp_path: Path, consortium: Consortium) -> AsyncIterator[Start]:
    programs: list[Program] = []

    async def start(behaviour: str = "", port: int | None = None) -> Program:
        program = Program(tmp_path, consortium, behaviour, port or free_port())
        await program.start()
        programs.append(program)
        return program

    yield start
    for program in programs:
        if program.process.returncode is None:
            program.process.kill()
            await program.process.wait()


async def test_a_service_gets_ready_and_on_sigterm_closes_in_reverse_order_with_status_0(
    start: Start,
) -> None:
    program = await start()
    await until(program.is_ready, "ready")

    program.process.send_signal(signal.SIGTERM)
    status, lines = await program.end()

    assert status == 0
    assert program.trail() == [
        "database opens",
        "nats opens",
        "worker ends",
        "nats closes",
        "database closes",
    ]
    events = [line["event"] for line in lines]
    assert [event for event in events if event.startswith("service.")] == [
        "service.ready",
        "service.stopping",
        "service.stopped",
    ]


async def test_readiness_tells_each_dependency_and_liveness_does_not_depend_on_them(start: Start) -> None:
    program = await start()
    await until(program.is_ready, "ready")
    program.break_ledger()

    async def is_unready() -> bool:
        return (await program.get("/readyz"))[0] == 503

    await until(is_unready, "not ready")
    status, text = await program.get("/readyz")
    alive, _ = await program.get("/livez")
    metrics_status, metrics = await program.get("/metrics")

    assert status == 503
    assert json.loads(text)["checks"]["ledger"] == {"ok": False, "problem": "the ledger does not answer"}
    assert alive == 200
    assert metrics_status == 200
    assert "process_resident_memory_bytes" in metrics
    assert "cbmdhi_program_rpc_requests_total" in metrics


async def test_a_crashed_background_task_ends_the_process_with_status_1_and_closes_all(start: Start) -> None:
    program = await start("crash")
    status, lines = await program.end()

    assert status == 1
    assert program.trail()[-2:] == ["nats closes", "database closes"]
    crash = next(line for line in lines if line["event"] == "task.crashed")
    assert crash["error_type"] == "KeyError"
    assert any("program.py" in str(frame) for frame in crash["frames"])
    assert "Jane" not in json.dumps(lines)


async def test_a_service_that_is_still_starting_is_not_ready_and_stops_on_sigterm(start: Start) -> None:
    program = await start("stuck")
    await until(lambda: "database opens" in program.trail(), "started")

    status, text = await program.get("/readyz")
    program.process.send_signal(signal.SIGTERM)
    exit_status, _ = await program.end()

    assert status == 503
    assert json.loads(text)["state"] == "starting"
    assert exit_status == 0
    assert program.trail() == ["database opens", "database closes"]


async def test_what_cannot_be_opened_is_said_and_what_was_open_is_closed(start: Start) -> None:
    program = await start("unusable")
    status, lines = await program.end()

    assert status == 1
    assert program.trail() == ["database opens", "database closes"]
    failed = next(line for line in lines if line["event"] == "service.failed")
    assert failed["reason"] == "the vault key cannot be used; make it anew"


async def test_a_taken_port_is_a_sentence_and_status_1(start: Start) -> None:
    port = free_port()
    first = await start(port=port)
    await until(first.is_ready, "ready")
    second = await start(port=port)
    status, lines = await second.end()

    assert status == 1
    failed = next(line for line in lines if line["event"] == "service.failed")
    assert f"127.0.0.1:{port}" in failed["reason"]
