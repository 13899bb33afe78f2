"""`build`, `proto` and `check`: what the Makefile calls."""

import argparse
import sys
import time
from pathlib import Path

from . import requirements
from .commands import Commands
from .display import Display
from .errors import BuildError
from .fingerprint import Stamps
from .plan import Plan
from .steps import Builder, Step

ROOT = Path(__file__).resolve().parents[2]


_WHAT = {
    "build": "what a laptop network runs",
    "tests": "and what the tests use besides",
    "engines": "and the engines of examples/engines",
    "tool": "the named programs of deploy/toolchain alone, such as otelcol",
    "proto": "only code from protos",
    "kubernetes": "a Kubernetes control plane",
    "kubernetes-node": "and a node",
    "check": "nothing: look for what a build needs",
}


def main(argv: list[str]) -> int:
    """Run one of the build's commands; the exit code."""
    described = "; ".join(f"{name}: {what}" for name, what in _WHAT.items())
    parser = argparse.ArgumentParser(prog="build", description=__doc__)
    parser.add_argument("what", choices=[*_WHAT], help=described)
    parser.add_argument("names", nargs="*", help="of tool: which")
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments.what, arguments.names)
    except BuildError as exc:
        sys.stderr.write(f"\n{exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Finished steps are kept; run it again to go on.\n")
        return 130


def _run(what: str, names: list[str]) -> int:
    started = time.monotonic()
    tools = ROOT / ".tools"
    is_first = not (tools / "stamps").exists()
    machine = requirements.check(ROOT, first_time=is_first)
    if what == "check":
        sys.stderr.write(f"Python {machine.python}, {machine.go} and a C compiler are here.\n")
        return 0
    commands = Commands()
    steps = _steps(Plan(ROOT, machine, commands), what, names)
    with Display() as display:
        if is_first:
            display.note(
                "First build: the pinned tools are compiled from source, 5 to 10 minutes. Later: seconds."
            )
        built = Builder(Stamps(tools / "stamps"), tools / "logs", display, commands).build(steps)
    seconds = time.monotonic() - started
    sys.stderr.write(f"Built in {seconds:.0f} s.\n" if built else f"Nothing to build ({seconds:.1f} s).\n")
    return 0


def _steps(plan: Plan, what: str, names: list[str]) -> list[Step]:
    if what == "tests":
        return [*plan.demo(), *plan.when_used(), *plan.engines()]
    if what == "engines":
        return [*plan.demo(), *plan.engines()]
    if what == "tool":
        known = {step.name: step for step in plan.when_used()}
        if unknown := [name for name in names if name not in known]:
            raise BuildError(f"No such tool: {', '.join(unknown)}.", f"There are: {', '.join(known)}.")
        return [known[name] for name in names]
    if what == "proto":
        wanted = {"python", "protoc-gen-go", *(step.name for step in plan.protos())}
        return [step for step in plan.demo() if step.name in wanted]
    if what == "kubernetes":
        return plan.kubernetes()
    if what == "kubernetes-node":
        return plan.kubernetes_node()
    return plan.demo()
