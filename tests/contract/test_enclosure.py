"""What runs enclosed leaves nothing on the machine, however it ends."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.devnet.waiting import until
from tests.cluster import cgroups, machine, namespaces

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))),
    reason="namespaces of one's own need root, and util-linux",
)

# Its arguments: a file to write when all is there, how it ends, the folder, the control group.
PROGRAM = """
mount -t tmpfs tmpfs /run && touch /run/inside
mkdir /sys/fs/cgroup/pids/$4/below 2>/dev/null
(setsid sh -c 'sleep 1000; :' "$3" &)
echo "$3 $4 $(readlink /proc/self/ns/net)" > "$1"
[ "$2" = ends ] && exit 3
sleep 1000
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(machine, "temporary", lambda: made)
    return made


def test_a_program_that_ends_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    status = namespaces.run(["sh", "-c", PROGRAM, "sh", str(told), "ends"])

    assert status == 3
    _state, group, network = told.read_text().split()
    assert network != os.readlink("/proc/self/ns/net")
    assert not Path("/run/inside").exists()
    _nothing_is_left(folder, group)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_nothing(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    told = tmp_path / "told"
    code = (
        "import signal, sys; from pathlib import Path; from tests.cluster import machine, namespaces\n"
        # A shell has what it starts in the background ignore SIGINT, and so all that comes of it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGTERM, lambda received, _: sys.exit(128 + received))\n"
        "machine.temporary = lambda: Path(sys.argv[1])\n"
        "sys.exit(namespaces.run(sys.argv[2:]))"
    )
    program = ["sh", "-c", PROGRAM, "sh", str(told), "stays"]
    with subprocess.Popen([sys.executable, "-c", code, str(folder), *program]) as process:
        until(lambda: told.exists() and told.read_text().endswith("\n"), "the program runs", 20)
        process.send_signal(number)
        status = process.wait(40)

    assert status == 128 + number
    _nothing_is_left(folder, told.read_text().split()[1])


def test_a_run_that_is_killed_takes_its_processes_with_it(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = (
        "import sys; from pathlib import Path; from tests.cluster import machine, namespaces\n"
        "machine.temporary = lambda: Path(sys.argv[1])\n"
        "namespaces.run(sys.argv[2:])"
    )
    program = ["sh", "-c", PROGRAM, "sh", str(told), "stays"]
    with subprocess.Popen([sys.executable, "-c", code, str(folder), *program]) as process:
        until(lambda: told.exists() and told.read_text().endswith("\n"), "the program runs", 20)
        process.kill()
    state, group, _ = told.read_text().split()
    until(lambda: not _processes_that_name(state), "its processes are gone", 20)
    # Folders are all that stays: whoever was killed cannot put them away.
    with cgroups.group(group):
        pass
    _nothing_is_left(None, group)


def _nothing_is_left(folder: Path | None, group: str) -> None:
    assert not list(cgroups.ROOT.glob(f"*/{group}"))
    if folder is not None:
        assert not list(folder.iterdir())
        assert not _processes_that_name(str(folder))


def _processes_that_name(text: str) -> list[str]:
    """Command lines, but of this process and zombies, in which something stands."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found
