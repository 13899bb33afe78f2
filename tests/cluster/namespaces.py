"""Runs a program in namespaces of its own, and leaves nothing of it behind, however it ends.

Network, mounts, processes, host name and IPC of the program are its own. The first process of the namespace
ends with us, even when we are killed; with it the kernel ends every other one, and mounts and network vanish.
"""

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster import cgroups, kernel, machine

_GONE_SECONDS = 30.0


def run(program: Sequence[str]) -> int:
    """Run `program` with two more arguments, a folder for its state and the name of its control group.

    Gives its exit status; 130 after Ctrl-C.
    """
    name = f"cbmdhi-k8s-{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=machine.temporary()))
    try:
        with kernel.restored(), cgroups.group(name):
            return _enclosed([*program, str(folder), name])
    except KeyboardInterrupt:
        print("\nInterrupted: everything is taken down.", flush=True)
        return 130
    finally:
        shutil.rmtree(folder)


def _enclosed(program: Sequence[str]) -> int:
    # Every process of ours in there but the first closes it: its other end is seen when that one is gone.
    alive, held = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("unshare", "--net", "--mount", "--pid", "--ipc", "--uts"),
                *("--fork", "--kill-child=KILL", "--mount-proc", "--"),
                *(sys.executable, "-m", "tests.cluster.reaper"),
                *program,
            ],
            stdin=subprocess.DEVNULL,
            env=_environment(os.environ),
            pass_fds=[held],
            # Ctrl-C is ours to answer.
            start_new_session=True,
        )
        os.close(held)
        try:
            return process.wait()
        finally:
            process.kill()
            process.wait()
            _wait_until_gone(alive)
    finally:
        os.close(alive)


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Without proxies: nothing of outside can be reached, and everything inside directly."""
    return {name: value for name, value in given.items() if not name.lower().endswith("_proxy")}


def _wait_until_gone(alive: int) -> None:
    readable, _, _ = select.select([alive], [], [], _GONE_SECONDS)
    if not readable:
        raise TimeoutError(f"the namespace's first process did not end within {_GONE_SECONDS:g} s")
