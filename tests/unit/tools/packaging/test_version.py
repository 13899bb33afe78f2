"""What `cbmdhi --version` says: the tag, where it is one; which commit else; and never another's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cbmdhi.version import UNKNOWN, version_of
from ops.devnet.layout import ROOT


class Clone:
    """A small repository with the version rule of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *argv: str) -> str:
        person = ("-c", "user.name=A", "-c", "user.email=a@localhost")
        done = subprocess.run(
            ["git", *person, *argv], cwd=self.folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "one more")
        return self.git("rev-parse", "--short=7", "HEAD")

    def version(self) -> str:
        return version_of(self.folder)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_at_its_tag_it_is_the_version_of_the_tag(clone: Clone) -> None:
    clone.git("tag", "v1.2.3")
    assert clone.version() == "1.2.3"


def test_after_a_tag_it_is_no_release_and_names_the_commit(clone: Clone) -> None:
    clone.git("tag", "v1.2.3")
    clone.commit()
    commit = clone.commit()
    assert clone.version().startswith(f"1.2.4.dev2+g{commit}")


def test_changed_files_are_told(clone: Clone) -> None:
    clone.git("tag", "v1.2.3")
    with (clone.folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert clone.version().startswith("1.2.4.dev0+")
    assert ".d2" in clone.version()


def test_without_any_tag_it_claims_none(clone: Clone) -> None:
    commit = clone.commit()
    assert ".dev" in clone.version()
    assert commit in clone.version()


def test_a_tag_of_something_else_is_no_version(clone: Clone) -> None:
    clone.git("tag", "before-the-moves")
    assert ".dev" in clone.version()


def test_copied_files_alone_have_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def absent(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr("cbmdhi.version._installed", absent)
    assert version_of(tmp_path) == UNKNOWN
