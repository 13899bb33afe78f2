"""`make k8s-run`: a real node on this machine, two members and the ordering organisation as its pods, in use.

This part is what the machine sees: it looks for what a node needs, makes the images, and encloses the rest
(inside.py) in namespaces of its own, of which nothing is left afterwards.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster import images, machine, namespaces
from tests.cluster.images import ImageFailed
from tests.cluster.proof_log import Account


def main(argv: Sequence[str] | None = None) -> int:
    """Prove all of it; 0 when everything held."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(prog="k8s-run", description=__doc__)
    parser.add_argument("--logs", type=Path, help="keep the logs of all programs and pods in this folder")
    parser.add_argument("--stay", action="store_true", help="keep the cluster when all is proved")
    options = parser.parse_args(argv)
    account = Account(begun)
    account.step("What a node needs, and the images")
    problems = machine.missing()
    for problem in problems:
        account.failed(problem)
    if problems:
        return 1
    try:
        for image in images.ALL:
            made = images.make(image)
            size = image.path.stat().st_size / 1e6
            account.proved(f"{image.tag}: {'made' if made else 'as it was made before'}, {size:.0f} MB")
    except (ImageFailed, OSError) as exc:
        account.failed(str(exc))
        return 1
    program = [sys.executable, "-m", "tests.cluster.scenario", "--begun", str(begun)]
    if options.logs:
        program += ["--logs", str(options.logs.resolve())]
    if options.stay:
        program.append("--stay")
    # An end from outside is an end like any other.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    return namespaces.run(program)


if __name__ == "__main__":
    sys.exit(main())
