"""The build: what is up to date is left alone, what fails is told with a remedy."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.build import fingerprint
from tools.build.commands import Commands
from tools.build.display import Display
from tools.build.errors import BuildError
from tools.build.fingerprint import Stamps
from tools.build.requirements import parse_go_version
from tools.build.steps import Builder, Step


class Workshop:
    """A builder on a temporary folder, with steps that write one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.inputs: dict[str, str] = {}
        self.shown = io.StringIO()

    def step(self, name: str, *after: str, fails: bool = False) -> Step:
        def run(log: Path) -> None:
            self.ran.append(name)
            if fails:
                raise BuildError("it broke", "glue it")
            (self.folder / name).write_text(log.name)

        return Step(
            name,
            f"making {name}",
            1.0,
            lambda: self.inputs.get(name, ""),
            lambda: [self.folder / name],
            run,
            after,
        )

    def build(self, *steps: Step) -> int:
        with Display(self.shown) as display:
            builder = Builder(Stamps(self.folder / "stamps"), self.folder / "logs", display, Commands())
            return builder.build(steps)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_steps_run_after_those_they_need(workshop: Workshop) -> None:
    assert workshop.build(workshop.step("last", "first"), workshop.step("first")) == 2
    assert workshop.ran == ["first", "last"]


def test_nothing_runs_again_when_nothing_changed(workshop: Workshop) -> None:
    workshop.build(workshop.step("tool"))
    assert workshop.build(workshop.step("tool")) == 0
    assert workshop.ran == ["tool"]


def test_a_changed_input_and_a_missing_output_run_again(workshop: Workshop) -> None:
    workshop.build(workshop.step("changed"), workshop.step("lost"), workshop.step("kept"))
    workshop.inputs["changed"] = "other"
    (workshop.folder / "lost").unlink()
    assert workshop.build(workshop.step("changed"), workshop.step("lost"), workshop.step("kept")) == 2


def test_a_failed_step_is_told_and_tried_again(workshop: Workshop) -> None:
    with pytest.raises(BuildError, match="it broke\n  glue it"):
        workshop.build(workshop.step("tool", fails=True))
    assert "✗  making tool" in workshop.shown.getvalue()
    assert workshop.build(workshop.step("tool")) == 1


def test_a_step_that_makes_nothing_has_failed(workshop: Workshop) -> None:
    step = workshop.step("tool")
    empty = Step(step.name, step.title, 1.0, step.fingerprint, step.outputs, lambda log: None)
    with pytest.raises(BuildError, match="tool was not made"):
        workshop.build(empty)


def test_a_failing_program_is_told_with_the_end_of_its_output(tmp_path: Path) -> None:
    log = tmp_path / "tool.log"
    program = [sys.executable, "-c", "import sys; print('no such header'); sys.exit(3)"]
    with pytest.raises(BuildError, match=r"ended with code 3(.|\n)*no such header"):
        Commands().run(program, tmp_path, log)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-compiler is not installed"):
        Commands().run(["no-such-compiler"], tmp_path, tmp_path / "tool.log")


def test_the_fingerprint_follows_names_and_contents_not_times(tmp_path: Path) -> None:
    file = tmp_path / "go.mod"
    file.write_text("module a")
    before = fingerprint.of(tmp_path, [file], ["go1.26"])
    file.touch()
    assert fingerprint.of(tmp_path, [file], ["go1.26"]) == before
    assert fingerprint.of(tmp_path, [file], ["go1.27"]) != before
    assert fingerprint.of(tmp_path, [file.rename(tmp_path / "go.sum")], ["go1.26"]) != before


@pytest.mark.parametrize(
    ("text", "version"),
    [("go1.26.8", (1, 26)), ("go1.27rc1", (1, 27)), ("devel go1.28-abc", (1, 28)), ("", (0, 0))],
)
def test_go_versions_are_understood(text: str, version: tuple[int, int]) -> None:
    assert parse_go_version(text) == version


@pytest.mark.parametrize(
    ("programs", "told"),
    [
        ({}, "Go is not installed|not on PATH"),
        ({"go": "echo go1.25.3"}, "Go 1.26 or newer is needed"),
        (
            {"go": 'case "$2" in GOVERSION) echo go1.26.8;; CC) echo no-such-cc;; esac'},
            "No C compiler: `no-such-cc`",
        ),
    ],
)
def test_what_the_machine_lacks_is_said_in_a_sentence(
    tmp_path: Path, programs: dict[str, str], told: str
) -> None:
    for name, script in programs.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    entry = Path(fingerprint.__file__).with_name("run.py")
    completed = subprocess.run(
        [sys.executable, str(entry), "check"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 1
    [sentence] = [line for line in completed.stderr.splitlines() if line and not line.startswith("  ")]
    assert re.search(told, sentence)
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3": "fast", "python3.14": "fast"}, {"python3"}),
        # The distribution's own may be there too, and comes first.
        ({"python3": "plain", "python3.14": "fast"}, {"python3.14", "/usr/bin/python3"}),
        ({"python3": "old", "python3.14": "fast"}, {"python3.14", "/usr/bin/python3"}),
    ],
)
def test_a_python_compiled_with_optimisation_is_preferred(
    tmp_path: Path, pythons: dict[str, str], taken: set[str]
) -> None:
    for name, says in pythons.items():
        stub = tmp_path / name
        stub.write_text(f"#!/bin/sh\necho {says}\n")
        stub.chmod(0o755)
    script = Path(fingerprint.__file__).parent / "python.sh"
    found = subprocess.run(
        ["/bin/sh", str(script)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() in taken
