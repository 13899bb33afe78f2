"""`make lint` and `make test`: every check in a stage of its own, with a heading, its time, and a summary."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.build.fingerprint import Stamp, Stamps

# What `make test` leaves when all of a commit has passed; `make release-check` looks for it.
TESTED = "tested"
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CHAINCODE = ROOT / "chaincode"
FORMATTED = ("chaincode", "examples/engines/go")
# What the protos are compared with: the first of these that this clone has.
BASES = ("origin/main", "main")


@dataclass(frozen=True)
class Stage:
    """`run` gives the exit code."""

    title: str
    run: Callable[[], int]


def lint() -> list[Stage]:
    """Style, types and compatibility."""
    return [
        Stage("ruff check", _command(BIN / "ruff", "check", "--quiet", ".")),
        Stage("ruff format --check", _command(BIN / "ruff", "format", "--check", "--quiet", ".")),
        Stage("basedpyright", _command(BIN / "basedpyright", "--warnings")),
        Stage("gofmt", _gofmt),
        Stage("go vet", _command("go", "vet", "./...", cwd=CHAINCODE)),
        Stage("buf lint", _command(BIN / "buf", "lint", "protos")),
        Stage("buf breaking", _buf_breaking),
    ]


def tests() -> list[Stage]:
    """From the quickest to the slowest."""
    return [
        Stage("go test (chaincode)", _command("go", "test", "./...", cwd=CHAINCODE)),
        # Go looks at no file outside the module to tell whether a result still holds.
        Stage(
            "go test (test vectors, default policy)",
            _command("go", "test", "-count=1", "./vectors", "./state", "./policy", cwd=CHAINCODE),
        ),
        Stage("unit tests", _pytest("unit")),
        Stage("contract tests: each adapter against its real component", _pytest("contract")),
        Stage("end-to-end tests on a network of their own", _pytest("e2e")),
        Stage("attacks, the short versions", _pytest("attacks")),
        Stage("failover: some of three members' programs killed", _pytest("failover")),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all stages, also after one that failed; the exit code."""
    parser = argparse.ArgumentParser(prog="checks", description=__doc__)
    parser.add_argument("what", choices=["lint", "test"])
    parser.add_argument("--only", metavar="TITLE", help="this stage alone, by its title")
    arguments = parser.parse_args(argv)
    stages = lint() if arguments.what == "lint" else [*lint(), *tests()]
    if arguments.only:
        stages = [stage for stage in stages if stage.title == arguments.only]
        if not stages:
            parser.error(f"there is no stage {arguments.only!r}")
    commit = _committed()
    started = time.monotonic()
    results: list[tuple[str, int, float]] = []
    for number, stage in enumerate(stages, 1):
        print(f"\n=== {number}/{len(stages)}  {stage.title}", flush=True)
        begun = time.monotonic()
        code = stage.run()
        seconds = time.monotonic() - begun
        results.append((stage.title, code, seconds))
        print(f"=== {'ok' if code == 0 else f'FAILED ({code})'}  {seconds:.1f} s", flush=True)
    _summary(results, time.monotonic() - started)
    if any(code for _, code, _ in results):
        return 1
    if arguments.what == "test" and not arguments.only and commit and commit == _committed():
        Stamps(ROOT / ".tools" / "stamps").write(TESTED, Stamp(commit, time.monotonic() - started))
    return 0


def _committed() -> str:
    """The commit that all of this is; "" when something was changed since, or in no clone."""
    told = [
        subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for argv in (("rev-parse", "HEAD"), ("status", "--porcelain"))
    ]
    return "" if told[1] else told[0]


def _summary(results: Sequence[tuple[str, int, float]], seconds: float) -> None:
    print()
    for title, code, taken in results:
        print(f"  {'✓' if code == 0 else '✗'}  {title:<60} {taken:7.1f} s")
    failed = sum(1 for _, code, _ in results if code)
    print(
        f"{'All passed' if not failed else f'{failed} of {len(results)} failed'} in {seconds:.0f} s.",
        flush=True,
    )


def _command(*argv: str | Path, cwd: Path = ROOT) -> Callable[[], int]:
    return lambda: (
        subprocess.run([str(part) for part in argv], cwd=cwd, env=os.environ, check=False).returncode
    )


def _pytest(folder: str) -> Callable[[], int]:
    return _command(BIN / "python", "-m", "pytest", "--quiet", "--durations=5", f"tests/{folder}")


def _gofmt() -> int:
    completed = subprocess.run(
        ["gofmt", "-l", *FORMATTED], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    files = [name for name in completed.stdout.splitlines() if not name.startswith("chaincode/gen/")]
    for name in files:
        print(f"{name} is not formatted; run: make format")
    return 1 if files or completed.returncode else 0


def _buf_breaking() -> int:
    """Compare the protos with those of the main branch, where this clone has it."""
    for base in BASES:
        archive = subprocess.run(
            ["git", "archive", "--format=tar", base, "protos"],
            cwd=ROOT,
            env=os.environ,
            capture_output=True,
            check=False,
        )
        if archive.returncode == 0:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
                print(f"compared with {base}", flush=True)
                return _command(BIN / "buf", "breaking", "protos", "--against", f"{folder}/protos")()
    print(f"nothing to compare with: this clone has no protos at {' or '.join(BASES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
