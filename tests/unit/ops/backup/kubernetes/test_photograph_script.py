"""What runs in a pod: programs stand still for a moment, and go on whatever happens."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.backup.archive import LINKED
from ops.backup.kubernetes.photographs import SCRIPT
from tests.cluster.images import SHELL
from tests.support.waiting import until
from tests.unit.ops.manifests.partners import GROWS, REWRITTEN, Partner, partners, script_of

PHOTO = ".cbmdhi-photograph"


@pytest.fixture
async def partner(tmp_path: Path) -> AsyncIterator[Partner]:
    with partners(tmp_path / "pods") as (one, _):
        await until(one.goes_on(), "it writes")
        yield one


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """What images have, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in SHELL:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


class Photographer:
    """The script at work on a volume."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def hears(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().rstrip("\n")

    def has_frozen(self) -> None:
        assert self.hears() == "ready"
        self.say("freeze")
        assert self.hears() == "still"

    def ends(self) -> tuple[int, str]:
        """The exit code, and what it complained about."""
        _, complaint = self.process.communicate(timeout=20)
        return self.process.returncode, complaint.decode()


@contextmanager
def photographer(text: str, volume: Path, tools: Path, longest: float = 10.0) -> Iterator[Photographer]:
    with subprocess.Popen(
        ["sh", "-c", text, "cbmdhi-photograph", str(volume), str(longest), LINKED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": str(tools)},
        start_new_session=True,
    ) as process:
        yield Photographer(process)


async def test_what_it_shows_is_as_long_as_it_was_and_the_program_goes_on(
    partner: Partner, tools: Path
) -> None:
    (partner.volume / "empty folder").mkdir()
    (partner.volume / "lost+found").mkdir()
    (partner.volume / ".cbmdhi-replaced-20261123T000000Z").mkdir()
    (partner.volume / "key.pem").write_text("key")
    (partner.volume / "key.pem").chmod(0o600)
    with photographer(partner.script, partner.volume, tools) as pod:
        pod.has_frozen()
        assert partner.stands_still()
        length = (partner.volume / GROWS).stat().st_size
        pod.say("all")
        word, _, nanoseconds = pod.hears().partition(" ")
        assert word == "done"
        assert 0 < int(nanoseconds) < 10e9
        await until(partner.goes_on(), "the program goes on")
        assert (partner.volume / PHOTO / "files" / GROWS).samefile(partner.volume / GROWS)
        pod.say("send")
        shown = {}
        while line := pod.hears():
            kind, mode, size, name = line.split(" ", 3)
            shown[name] = (kind, mode, int(size) if kind == "f" else 0)
        assert set(shown) == {"empty folder", "key.pem", "blocks", GROWS, REWRITTEN}
        assert shown["key.pem"] == ("f", "600", 3)
        assert shown[GROWS][2] == length
        assert pod.process.stdout is not None
        content = pod.process.stdout.read()
        assert len(content) == sum(size for _, _, size in shown.values())
        assert b"key" in content
        assert pod.ends() == (0, "")
    assert not (partner.volume / PHOTO).exists()


async def test_the_program_goes_on_when_whoever_takes_the_backup_is_gone(
    partner: Partner, tools: Path
) -> None:
    with photographer(partner.script, partner.volume, tools) as pod:
        pod.has_frozen()
        assert partner.stands_still()
        code, _ = pod.ends()
        assert code == 1
        await until(partner.goes_on(), "the program goes on")
    assert not (partner.volume / PHOTO).exists()


async def test_the_program_goes_on_by_itself_when_nothing_is_said_for_too_long(
    partner: Partner, tools: Path
) -> None:
    with photographer(partner.script, partner.volume, tools, longest=0.3) as pod:
        pod.has_frozen()
        await until(partner.goes_on(), "the program goes on")
        pod.say("all")
        code, complaint = pod.ends()
    assert code == 1
    assert "longer than the 0.3 s" in complaint


async def test_the_program_goes_on_when_the_script_itself_is_killed(partner: Partner, tools: Path) -> None:
    with photographer(partner.script, partner.volume, tools, longest=0.5) as pod:
        pod.has_frozen()
        assert partner.stands_still()
        pod.process.kill()
        await until(partner.goes_on(), "the program goes on")
    assert (partner.volume / PHOTO).exists(), "nobody could remove it"

    with photographer(partner.script, partner.volume, tools) as pod:
        pod.has_frozen()
        pod.say("all")
        assert pod.hears().startswith("done ")
        assert PHOTO not in (partner.volume / PHOTO / "list").read_text()
    assert not (partner.volume / PHOTO).exists()


async def test_a_program_that_is_started_meanwhile_spoils_the_photograph(
    partner: Partner, tools: Path, tmp_path: Path
) -> None:
    there = tmp_path / "processes"
    there.write_text(f"{partner.process.pid}")
    with photographer(script_of(f"cat {there}"), partner.volume, tools) as pod:
        pod.has_frozen()
        with subprocess.Popen(["sleep", "60"]) as another:  # noqa: ASYNC220
            there.write_text(f"{partner.process.pid} {another.pid}")
            pod.say("all")
            code, complaint = pod.ends()
            another.kill()
    assert code == 1
    assert "started or ended" in complaint
    await until(partner.goes_on(), "the program goes on")


def test_where_the_program_is_the_first_process_nothing_is_stopped(tmp_path: Path, tools: Path) -> None:
    with photographer(SCRIPT, tmp_path, tools, longest=0.1) as pod:
        code, complaint = pod.ends()
    assert (code, complaint) == (1, "the pod does not share its process namespace\n")


def test_where_nothing_runs_there_is_no_photograph(tmp_path: Path, tools: Path) -> None:
    with photographer(script_of(":"), tmp_path, tools) as pod:
        assert pod.hears() == "ready"
        pod.say("freeze")
        code, complaint = pod.ends()
    assert (code, complaint) == (1, "no program runs here\n")
