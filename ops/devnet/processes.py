"""Which processes are this network's, and ending them. A process is ours by a mark in its environment."""

from collections.abc import Iterable
from pathlib import Path

import psutil

from ops.devnet.errors import NotReady

HOME_MARK = "CBMDHI_NETWORK_HOME"
PROGRAM_MARK = "CBMDHI_NETWORK_PROGRAM"
SUPERVISOR = "supervisord"


def marks(home: Path, program: str) -> dict[str, str]:
    """The environment that marks a process as a program of the network at `home`."""
    return {HOME_MARK: str(home), PROGRAM_MARK: program}


def of_network(home: Path) -> dict[str, list[psutil.Process]]:
    """The living processes of the network by program, whoever their parent is now.

    Neither names nor recorded process ids are trusted: both may have come to mean another program.
    """
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if environment.get(HOME_MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(environment.get(PROGRAM_MARK, ""), []).append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def end(processes: Iterable[psutil.Process], seconds: float = 10) -> int:
    """Ask the processes to end, and kill those that have not after `seconds`; how many there were.

    Raises:
        NotReady: one is still there, even killed.
    """
    wanted = list(processes)
    for process in wanted:
        _send(process, kill=False)
    _, alive = psutil.wait_procs(wanted, timeout=seconds)
    for process in alive:
        _send(process, kill=True)
    _, alive = psutil.wait_procs(alive, timeout=5)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise NotReady(
            f"Processes {pids} do not end, even killed.", "They hang in the kernel; look at `dmesg`."
        )
    return len(wanted)


def _send(process: psutil.Process, *, kill: bool) -> None:
    try:
        # psutil checks that the process id was not given to another program meanwhile. A stopped process
        # (SIGSTOP) hears SIGTERM only when it is resumed.
        if kill:
            process.kill()
        else:
            process.terminate()
            process.resume()
    except psutil.NoSuchProcess:
        pass
