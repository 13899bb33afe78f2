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
from .steps import Builder

ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str]) -> int:
    """Run one of the build's commands; the exit code."""
    parser = argparse.ArgumentParser(prog="build", description=__doc__)
    parser.add_argument(
        "what",
        choices=["build", "observe", "proto", "kubernetes", "kubernetes-node", "check"],
        help="everything, also Prometheus, only code from protos, a Kubernetes control plane, also a node, "
        "or only look for what a build needs",
    )
    what = parser.parse_args(argv).what
    try:
        return _run(what)
    except BuildError as exc:
        sys.stderr.write(f"\n{exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Finished steps are kept; run it again to go on.\n")
        return 130


def _run(what: str) -> int:
    started = time.monotonic()
    tools = ROOT / ".tools"
    machine = requirements.check(ROOT, first_time=not (tools / "stamps").exists())
    if what == "check":
        sys.stderr.write(f"Python {machine.python}, {machine.go} and a C compiler are here.\n")
        return 0
    commands = Commands()
    plan = Plan(ROOT, machine, commands)
    steps = plan.everything()
    if what == "observe":
        steps += plan.observability()
    if what == "proto":
        wanted = {"python", "protoc-gen-go", *(step.name for step in plan.protos())}
        steps = [step for step in steps if step.name in wanted]
    if what == "kubernetes":
        steps = plan.kubernetes()
    if what == "kubernetes-node":
        steps = plan.kubernetes_node()
    with Display() as display:
        if not (tools / "stamps").exists():
            display.note(
                "First build: the pinned tools are compiled from source, 5 to 10 minutes. Later: seconds."
            )
        built = Builder(Stamps(tools / "stamps"), tools / "logs", display, commands).build(steps)
    seconds = time.monotonic() - started
    sys.stderr.write(f"Built in {seconds:.0f} s.\n" if built else f"Nothing to build ({seconds:.1f} s).\n")
    return 0
