"""`make release-check`: a release that is whole passes, and each thing that is missing is named."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from tools.build import release
from tools.build.checks import TESTED
from tools.build.fingerprint import Stamp, Stamps

_CHANGES = (
    "# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-12-31\n\n- A thing.\n\n## 1.2.2 - 2026-12-01\n\n- One.\n"
)
_GENERATED = ("cbmdhi/a/v1/a_pb2.py", "cbmdhi/a/v1/a_pb2.pyi", "cbmdhi/a/v1/a_pb2_grpc.py")


class Checkout:
    """A small repository of which 1.2.3 is released, whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet", "--initial-branch=main")
        (root / ".gitignore").write_text("/dist/\n/.tools/\n")
        (root / "CHANGELOG.md").write_text(_CHANGES)
        self.commit()
        self.git("tag", "v1.2.2")
        self.commit()
        self.git("tag", "-a", "v1.2.3", "-m", "1.2.3")
        self.tested()
        page = root / ".tools" / "site" / "html" / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text("built")
        (root / "dist").mkdir()
        self.pack("cbmdhi")
        self.pack("fabric-gateway-async")

    def git(self, *argv: str) -> str:
        person = ("-c", "user.name=A", "-c", "user.email=a@localhost")
        done = subprocess.run(
            ["git", *person, *argv], cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "one more")

    def tested(self) -> None:
        Stamps(self.root / ".tools" / "stamps").write(TESTED, Stamp(self.git("rev-parse", "HEAD"), 1.0))

    def pack(
        self,
        name: str,
        version: str = "1.2.3",
        without: str = "-",
        requires: int = 3,
        readme: str = "It is.",
        extra: str = "Provides-Extra: cli\n",
    ) -> None:
        """`without`: leave out files whose name ends so."""
        stem, package = f"{name.replace('-', '_')}-1.2.3", name.partition("-")[0]
        package = "cbmdhi" if package == "cbmdhi" else "fabric_gateway"
        info = f"{stem}.dist-info"
        metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{extra}"
        metadata += "".join(f"Requires-Dist: a{number}>=1\n" for number in range(requires))
        metadata += f'Requires-Dist: typer; extra == "cli"\n\n{readme}\n'
        files = [f"{package}/__init__.py", f"{package}/py.typed", f"{info}/licenses/LICENSE", *_GENERATED]
        with ZipFile(self.root / "dist" / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", metadata)
            for file in files:
                if not file.endswith(without):
                    wheel.writestr(file, "")
        with tarfile.open(self.root / "dist" / f"{stem}.tar.gz", "w:gz") as archive:
            for file in ("PKG-INFO", "LICENSE", *_GENERATED):
                if not file.endswith(without):
                    archive.addfile(tarfile.TarInfo(f"{stem}/{file}"), io.BytesIO())

    def missing(self) -> dict[str, str]:
        return {found.wanted: found.remedy for found in release.findings(self.root) if found.remedy}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_nothing_is_missing_of_a_release_that_is_whole(checkout: Checkout) -> None:
    assert checkout.missing() == {}
    assert len(list(release.findings(checkout.root))) == 11


def test_a_changelog_without_a_release_is_told(checkout: Checkout) -> None:
    (checkout.root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- A thing.\n")
    with pytest.raises(release.NoRelease):
        list(release.findings(checkout.root))


def test_what_waits_under_unreleased_and_an_empty_entry_are_told(checkout: Checkout) -> None:
    changed = _CHANGES.replace("## Unreleased\n", "## Unreleased\n\n- Late.\n").replace("- A thing.\n", "")
    (checkout.root / "CHANGELOG.md").write_text(changed)

    missing = checkout.missing()

    assert missing["CHANGELOG.md says what 1.2.3 brings"] == "write it there"
    assert missing["nothing waits under Unreleased in CHANGELOG.md"] == "move it under 1.2.3"
    assert missing["everything is committed"] == "commit or remove: CHANGELOG.md"


def test_a_commit_after_the_tag_is_not_the_release_nor_tested(checkout: Checkout) -> None:
    checkout.commit()
    head = checkout.git("rev-parse", "--short=7", "HEAD")

    missing = checkout.missing()

    assert "the next version's" in missing[f"v1.2.3 is {head}"]
    assert missing[f"all tests passed on {head}"] == "make test"


def test_a_tag_that_is_not_there_yet_is_given_as_a_command(checkout: Checkout) -> None:
    checkout.git("tag", "--delete", "v1.2.3", "v1.2.2")

    assert 'git tag -a v1.2.3 -m "CBMDHI 1.2.3"' in checkout.missing().values()
    assert "v1.2.2, which CHANGELOG.md names, is a tag" in checkout.missing()


def test_documents_of_an_earlier_commit_are_told(checkout: Checkout) -> None:
    import os

    os.utime(checkout.root / ".tools/site/html/index.html", (1, 1))
    assert "make docs" in checkout.missing().values()


def test_tests_that_never_ran_are_told(checkout: Checkout) -> None:
    (checkout.root / ".tools" / "stamps" / f"{TESTED}.json").unlink()
    assert "make test" in checkout.missing().values()


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (lambda c: c.pack("cbmdhi", version="1.2.3.dev1+gabc"), "the wheel says that it is 1.2.3.dev1+gabc"),
        (lambda c: c.pack("cbmdhi", without="LICENSE"), "it lacks the licence"),
        (lambda c: c.pack("cbmdhi", without="py.typed"), "it lacks py.typed"),
        (lambda c: c.pack("cbmdhi", readme=""), "it lacks its README"),
        (lambda c: c.pack("cbmdhi", requires=13), "it has 13 direct dependencies"),
        (lambda c: c.pack("cbmdhi", requires=0), "it has 0 direct dependencies"),
        (lambda c: c.pack("cbmdhi", without="_pb2.pyi"), "its wheel lacks generated code (*_pb2.pyi)"),
        (
            lambda c: c.pack("cbmdhi", without="_pb2.py"),
            "its source distribution lacks generated code (*_pb2.py)",
        ),
        (lambda c: c.pack("cbmdhi", extra=""), "it lacks the extra [cli]"),
    ],
)
def test_what_a_distribution_lacks_is_told(
    checkout: Checkout, pack: Callable[[Checkout], None], said: str
) -> None:
    pack(checkout)
    assert said in checkout.missing()["cbmdhi 1.2.3 is whole"]


def test_a_distribution_of_another_version_is_no_release(checkout: Checkout) -> None:
    [wheel] = checkout.root.glob("dist/fabric*.whl")
    wheel.rename(wheel.with_name("fabric_gateway_async-1.2.2-py3-none-any.whl"))
    assert "make dist" in checkout.missing()["fabric-gateway-async 1.2.3 is built"]
