"""`make release-check`: what the release at the top of CHANGELOG.md lacks, and what to do about it."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

from tools.build.checks import TESTED
from tools.build.dist import DISTRIBUTIONS
from tools.build.fingerprint import Stamps

ROOT = Path(__file__).resolve().parents[2]
MOST_DEPENDENCIES = 12
SDK = "cbmdhi"
_BEFORE = "before any heading"
_RELEASE = re.compile(r"^## (?P<version>\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$")


@dataclass(frozen=True)
class Finding:
    """`wanted`: what has to be so. `remedy`: "" when it is."""

    wanted: str
    remedy: str = ""


class NoRelease(Exception):
    """CHANGELOG.md names no released version."""


def sections(changelog: str) -> dict[str, str]:
    """What stands under each heading, by version, newest first; under "" what is not released."""
    found: dict[str, str] = {}
    name = _BEFORE
    for line in changelog.splitlines():
        if line.startswith("## "):
            released = _RELEASE.fullmatch(line)
            name = released["version"] if released else ""
            found[name] = ""
        elif name != _BEFORE:
            found[name] += line + "\n"
    return found


def findings(root: Path) -> Iterator[Finding]:
    """Everything that is looked at, in the order in which a release is made. Raises NoRelease."""
    changes = sections((root / "CHANGELOG.md").read_text())
    versions = [version for version in changes if version]
    if not versions:
        raise NoRelease('CHANGELOG.md has no heading "## 1.2.3 - 2026-12-31"')
    version, tag = versions[0], f"v{versions[0]}"
    head = _git(root, "rev-parse", "HEAD")

    told = re.search(r"^- ", changes[version], re.MULTILINE)
    yield Finding(f"CHANGELOG.md says what {version} brings", "" if told else "write it there")
    waiting = changes.get("", "").strip()
    yield Finding(
        "nothing waits under Unreleased in CHANGELOG.md", f"move it under {version}" if waiting else ""
    )
    changed = _git(root, "status", "--porcelain")
    yield Finding(
        "everything is committed", f"commit or remove: {', '.join(changed.split()[1::2])}" if changed else ""
    )
    stamp = Stamps(root / ".tools" / "stamps").read(TESTED)
    tested = stamp is not None and stamp.fingerprint == head
    yield Finding(f"all tests passed on {head[:7]}", "" if tested else "make test")
    yield Finding(f"the documents are built of {head[:7]}", "" if _documents(root) else "make docs")
    yield Finding(f"{tag} is {head[:7]}", _tag_remedy(root, tag, version, head))
    for earlier in versions[1:]:
        there = _git(root, "tag", "--list", f"v{earlier}")
        remedy = "" if there else f'git tag -a v{earlier} -m "CBMDHI {earlier}" COMMIT'
        yield Finding(f"v{earlier}, which CHANGELOG.md names, is a tag", remedy)
    for name in DISTRIBUTIONS:
        yield from _distribution(root / "dist", name, version)


def _tag_remedy(root: Path, tag: str, version: str, head: str) -> str:
    if not _git(root, "tag", "--list", tag):
        return f'git tag -a {tag} -m "CBMDHI {version}"'
    tagged = _git(root, "rev-parse", f"{tag}^{{commit}}")
    return "" if tagged == head else f"it is {tagged[:7]}: what came since is the next version's"


def _documents(root: Path) -> bool:
    page = root / ".tools" / "site" / "html" / "index.html"
    return page.exists() and page.stat().st_mtime >= int(_git(root, "log", "-1", "--format=%ct"))


def _distribution(folder: Path, name: str, version: str) -> Iterator[Finding]:
    stem = f"{name.replace('-', '_')}-{version}"
    wheel, archive = folder / f"{stem}-py3-none-any.whl", folder / f"{stem}.tar.gz"
    lacking = [path.name for path in (wheel, archive) if not path.exists()]
    yield Finding(
        f"{name} {version} is built",
        f"make dist, once the tag is there (no {', '.join(lacking)})" if lacking else "",
    )
    if lacking:
        return
    with ZipFile(wheel) as opened:
        inside = set(opened.namelist())
        metadata = message_from_bytes(opened.read(f"{stem}.dist-info/METADATA"))
    with tarfile.open(archive) as opened:
        packed = {member.partition("/")[2] for member in opened.getnames()}
    broken = list(_broken(name, version, inside, packed, metadata))
    yield Finding(f"{name} {version} is whole", "; ".join(broken))


def _broken(name: str, version: str, wheel: set[str], archive: set[str], metadata: Message) -> Iterator[str]:
    package = "cbmdhi" if name == SDK else "fabric_gateway"
    if metadata["Version"] != version:
        yield f"the wheel says that it is {metadata['Version']}"
    if not any(file.endswith("/licenses/LICENSE") for file in wheel) or "LICENSE" not in archive:
        yield "it lacks the licence"
    if f"{package}/py.typed" not in wheel:
        yield "it lacks py.typed: its types are not looked at"
    if not str(metadata.get_payload()).strip():
        yield "it lacks its README"
    direct = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    if not 0 < len(direct) <= MOST_DEPENDENCIES:
        yield f"it has {len(direct)} direct dependencies; from 1 to {MOST_DEPENDENCIES} are meant"
    if name == SDK:
        for what, files in (("wheel", wheel), ("source distribution", archive)):
            for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
                if not any(file.endswith(suffix) for file in files):
                    yield f"its {what} lacks generated code (*{suffix})"
        if "cli" not in metadata.get_all("Provides-Extra", []):
            yield "it lacks the extra [cli]"


def _git(root: Path, *argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    """Look at everything; the exit code: 0 when nothing is missing."""
    try:
        found = list(findings(ROOT))
    except NoRelease as error:
        print(error, file=sys.stderr)
        return 1
    for finding in found:
        print(f"  {'✗' if finding.remedy else '✓'}  {finding.wanted}")
        if finding.remedy:
            print(f"       {finding.remedy}")
    missing = sum(bool(finding.remedy) for finding in found)
    print("Nothing is missing." if not missing else f"{missing} of {len(found)} missing.")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
