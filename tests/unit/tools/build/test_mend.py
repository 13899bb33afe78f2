"""What is changed of Fabric: each place as expected, or nothing is built."""

import subprocess
from pathlib import Path

from tools.build import fingerprint
from tools.build.commands import Commands
from tools.build.programs import Programs
from tools.build.requirements import Machine

ROOT = Path(fingerprint.__file__).parents[2]
FABRIC = ROOT / "deploy" / "toolchain" / "fabric"


def test_another_release_of_fabric_is_not_mended_by_guess() -> None:
    done = subprocess.run(["go", "test", "./mend"], cwd=FABRIC, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_change_of_what_is_changed_builds_fabric_anew(tmp_path: Path) -> None:
    mend = tmp_path / "deploy" / "toolchain" / "fabric" / "mend"
    mend.mkdir(parents=True)
    for name in ("go.mod", "go.sum"):
        (mend.parent / name).write_text("")
    for name in ("main.go", "settled.go.txt"):
        (mend / name).write_text("")
    programs = Programs(tmp_path, Machine("3.11", "go1.26"), Commands())
    step = programs.tool("fabric", "Fabric", ["peer"], 1, mended=True)
    seen = {step.fingerprint()}
    for name in ("main.go", "settled.go.txt"):
        (mend / name).write_text("changed")
        seen.add(step.fingerprint())
    assert len(seen) == 3
