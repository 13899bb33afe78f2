"""The first process of a process namespace: runs one program, and takes in the orphans that others leave.

    python -m tests.cluster.reaper PROGRAM ARGUMENT…

When it ends, the kernel ends everything else in the namespace.
"""

import os
import sys


def main(argv: list[str]) -> int:
    """Run the program to its end; its exit status."""
    child = os.fork()
    if child == 0:
        os.execvp(argv[0], argv)  # noqa: S606 - the program is what we are asked to run
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
