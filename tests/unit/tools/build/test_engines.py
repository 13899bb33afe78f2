"""The example engines: what is missing is told with a remedy, what tools leave there builds nothing."""

from pathlib import Path

import pytest

from tools.build.commands import Commands
from tools.build.engines import Engines
from tools.build.errors import BuildError
from tools.build.requirements import Machine
from tools.build.steps import Step


def steps(root: Path) -> dict[str, Step]:
    made = Engines(root, root / ".venv", Machine("3.11", "go1.26.8"), Commands()).steps()
    return {step.name: step for step in made}


def test_without_a_jdk_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="Install a JDK of 17 or newer and Maven"):
        steps(tmp_path)["engine-java"].run(tmp_path / "log")


def test_an_engine_is_built_anew_for_its_sources_and_the_protos_alone(tmp_path: Path) -> None:
    folder = tmp_path / "examples" / "engines" / "javascript"
    (folder / "node_modules").mkdir(parents=True)
    (tmp_path / "protos").mkdir()
    (folder / "engine.js").write_text("1")
    step = steps(tmp_path)["engine-javascript"]
    before = step.fingerprint()
    (folder / "node_modules" / "some.js").write_text("fetched")
    assert step.fingerprint() == before
    (tmp_path / "protos" / "some.proto").write_text("changed")
    changed = step.fingerprint()
    assert changed != before
    (folder / "engine.js").write_text("2")
    assert step.fingerprint() != changed
