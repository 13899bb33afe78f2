"""Lets frozen processes go on when whoever froze them is gone: `python guard.py SECONDS PID:CREATED …`.

A process of its own, so that not even SIGKILL of the backup leaves a hospital standing still. Prints `ready`;
then waits for the end of stdin (the backup is done, or dead), at most SECONDS. Ends with 3 when that passed.
"""

import contextlib
import select
import sys

import psutil

PASSED = 3


def main(argv: list[str]) -> int:
    """Wait, then resume them; the exit code."""
    processes: list[psutil.Process] = []
    for each in argv[2:]:
        pid, _, created = each.partition(":")
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(pid))
            if f"{process.create_time()}" == created:
                processes.append(process)
    print("ready", flush=True)
    ended, _, _ = select.select([sys.stdin], [], [], float(argv[1]))
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.resume()
    return 0 if ended else PASSED


if __name__ == "__main__":
    sys.exit(main(sys.argv))
