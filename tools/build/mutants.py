"""`make mutants`: break each rule in turn; its tests have to notice. The pure Python: python_mutants.py.

The list for the chaincode is tests/mutants/chaincode.toml. A mutation replaces one piece of text in one file;
the tests then run on it by Go's -overlay, the checkout stays as it is. It fails the run when the tests pass
(the rule is not tested), when its text is not there exactly once (the rule moved: move the mutation with it),
and when it does not compile.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tools.build import mutant_survivors, python_mutants

ROOT = Path(__file__).resolve().parents[2]
CHAINCODE = ROOT / "chaincode"
LIST = ROOT / "tests" / "mutants" / "chaincode.toml"
_DEADLINE_SECONDS = 300
# Properties are tried on few draws: a rule has a test that needs no luck. Failing draws are not kept, and
# symbols, which make a test slow to link, are not wanted.
_FLAGS = ("-short", "-failfast", "-vet=off", "-ldflags=-s -w")
_RAPID = {"RAPID_CHECKS": "5", "RAPID_NOFAILFILE": "true"}
_NOT_COMPILED = ("[build failed]", "[setup failed]")


class Fate(Enum):
    """What became of a mutation."""

    KILLED = "killed"
    SURVIVED = "SURVIVED: no test notices"
    GONE = "DOES NOT APPLY: its text is not in the file exactly once"
    BROKEN = "DOES NOT COMPILE"


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in `file` (below chaincode/), which breaks `rule`."""

    rule: str
    file: str
    old: str
    new: str

    def text(self, chaincode: Path) -> str | None:
        """The file with the rule broken; None when `old` is not there exactly once."""
        try:
            whole = (chaincode / self.file).read_text()
        except FileNotFoundError:
            return None
        return whole.replace(self.old, self.new) if whole.count(self.old) == 1 else None

    @property
    def packages(self) -> list[str]:
        """Those whose tests may notice, the file's own first."""
        folder = Path(self.file).parent
        return list(dict.fromkeys([f"./{folder}" if folder.name else ".", "./batch", "./contract", "."]))


def mutations(path: Path = LIST) -> list[Mutation]:
    """The committed list."""
    return [Mutation(**one) for one in tomllib.loads(path.read_text())["mutation"]]


def try_out(mutation: Mutation, chaincode: Path, scratch: Path) -> Fate:
    """Run the tests on a mutation, package by package, until one fails."""
    text = mutation.text(chaincode)
    if text is None:
        return Fate.GONE
    mutant, overlay = scratch / "mutant.go", scratch / "overlay.json"
    mutant.write_text(text)
    overlay.write_text(json.dumps({"Replace": {str(chaincode / mutation.file): str(mutant)}}))
    for package in mutation.packages:
        done = _go_test(chaincode, package, f"-overlay={overlay}")
        if any(sign in done.stdout for sign in _NOT_COMPILED):
            return Fate.BROKEN
        if done.returncode != 0:
            return Fate.KILLED
    return Fate.SURVIVED


def _go_test(chaincode: Path, package: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """A test that a mutation makes endless is killed by its deadline, and so is the mutation."""
    return subprocess.run(
        ["go", "test", *_FLAGS, f"-timeout={_DEADLINE_SECONDS}s", *flags, package],
        cwd=chaincode,
        env={**os.environ, **_RAPID},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """1 when a mutation survives that is not listed, does not apply or does not compile; 0 otherwise."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--in", dest="where", choices=["chaincode", "python"], help="one of both alone")
    parser.add_argument("--only", default="", help="what is about this text: a rule or a file")
    parser.add_argument("--anew", action="store_true", help="forget what an earlier run of Python found")
    parser.add_argument("--at-once", type=int, default=max(1, (os.cpu_count() or 2)))
    arguments = parser.parse_args(argv)
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("\nbroken off: Python goes on here when the same command is given again")
        return 130


def _main(arguments: argparse.Namespace) -> int:
    # A text that is about one of both says nothing of the other.
    modules = mutant_survivors.about(arguments.only)
    where = [arguments.where] if arguments.where else ["chaincode", "python"]
    chosen = [one for one in mutations() if arguments.only in one.rule or arguments.only in one.file]
    bad = tried = 0
    if "chaincode" in where and chosen:
        bad, tried = bad + _run_all(chosen, arguments.at_once), tried + 1
    if "python" in where and modules:
        bad, tried = bad + python_mutants.run(modules, arguments.at_once, arguments.anew), tried + 1
    if not tried:
        print(f"no mutation is about {arguments.only!r}")
    return 1 if bad or not tried else 0


def _run_all(chosen: Sequence[Mutation], at_once: int) -> int:
    """How many of the chaincode's were not killed, or 1 when its tests fail without any."""
    began = time.monotonic()
    whole = _go_test(CHAINCODE, "./...")
    if whole.returncode != 0:
        print(f"{whole.stdout}\nthe tests fail without any mutation: mend that first")
        return 1
    bad = _run(chosen, at_once)
    print(f"{len(chosen) - bad} of {len(chosen)} mutations killed in {time.monotonic() - began:.0f} s.")
    return bad


def _run(chosen: Iterable[Mutation], at_once: int) -> int:
    """How many were not killed; told as they come."""
    bad = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        rooms: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(at_once):
            rooms.put(Path(tempfile.mkdtemp(prefix=f"{number}-", dir=folder)))

        def in_a_room(mutation: Mutation) -> Fate:
            room = rooms.get()
            try:
                return try_out(mutation, CHAINCODE, room)
            finally:
                rooms.put(room)

        running = {pool.submit(in_a_room, mutation): mutation for mutation in chosen}
        for done in as_completed(running):
            mutation, fate = running[done], done.result()
            bad += fate is not Fate.KILLED
            mark = "✓" if fate is Fate.KILLED else "✗"
            print(f"  {mark}  {mutation.file:<26} {mutation.rule}", flush=True)
            if fate is not Fate.KILLED:
                print(f"     {fate.value}", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
