"""`make docs`: the documents as a site, in `.tools/site/html`; a dead link fails. `--serve` shows it."""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from tools.docs import configuration, protos, sdk
from tools.docs.built import dead_links
from tools.docs.pages import DOCS, ROOT
from tools.docs.stage import Stage

SITE = ROOT / ".tools" / "site"
HTML = SITE / "html"
_ENVIRONMENT = ROOT / ".tools" / "docs"
_LOCK = DOCS / "requirements.lock"


class NotInNav(Exception):
    """A page that no entry of docs/site.toml leads to, or an entry that leads to none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Build the site; the exit code."""
    parser = argparse.ArgumentParser(prog="make docs", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="show it at http://127.0.0.1:8000 until Ctrl-C")
    arguments = parser.parse_args(argv)
    pages = SITE / "pages"
    Stage(pages).fill(made())
    try:
        config = configured(pages)
    except NotInNav as error:
        print(error, file=sys.stderr)
        return 1
    (SITE / "zensical.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
    zensical = _environment() / "bin" / "zensical"
    built = subprocess.run(
        [str(zensical), "build", "--clean", "--strict", "--config-file", str(SITE / "zensical.toml")],
        cwd=ROOT,
        # griffe_extension is imported from here.
        env=os.environ | {"PYTHONPATH": str(ROOT)} | ({} if sys.stdout.isatty() else {"NO_COLOR": "1"}),
        check=False,
    )
    if built.returncode:
        return built.returncode
    if dead := dead_links(HTML):
        print(*dead, f"{len(dead)} dead links in the site.", sep="\n", file=sys.stderr)
        return 1
    print(f"The site is in {HTML.relative_to(ROOT)}/index.html; `make docs OPTIONS=--serve` shows it.")
    if arguments.serve:
        _serve()
    return 0


def made() -> dict[str, str]:
    """Pages that are made from the code, by their names under docs/."""
    return {
        "reference/configuration.md": configuration.page(),
        **{f"reference/protos/{name}.md": text for name, text in protos.pages().items()},
        **{f"reference/sdk/{name}.md": text for name, text in sdk.pages().items()},
    }


def configured(pages: Path) -> dict[str, Any]:
    """docs/site.toml with each `*` in its nav spelled out. Raises NotInNav."""
    config = tomllib.loads((DOCS / "site.toml").read_text(encoding="utf-8"))
    seen: set[str] = set()
    project = config["project"]
    project["nav"] = _expanded(project["nav"], pages, seen)
    project |= {"docs_dir": "pages", "site_dir": "html"}
    project["plugins"]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    there = {file.relative_to(pages).as_posix() for file in pages.rglob("*.md")}
    lost = sorted(name for name in there - seen if not name.startswith("source/") and name != "project.md")
    if lost:
        raise NotInNav(f"docs/site.toml has no place in `nav` for {', '.join(lost)}")
    return config


def _expanded(entries: Sequence[Any], pages: Path, seen: set[str]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            found += [{_title(pages / name): name} for name in _named(entry, pages, seen)]
            continue
        [(title, inside)] = entry.items()
        if isinstance(inside, str):
            found += [{title: name} for name in _named(inside, pages, seen)]
        elif expanded := _expanded(inside, pages, seen):
            found.append({title: expanded})
    return found


def _named(pattern: str, pages: Path, seen: set[str]) -> list[str]:
    names = sorted(file.relative_to(pages).as_posix() for file in pages.glob(pattern))
    if not names and "*" not in pattern:
        raise NotInNav(f"docs/site.toml leads to {pattern}, which is not there")
    # A folder's README is read first.
    names.sort(key=lambda name: not name.endswith("README.md"))
    fresh = [name for name in names if name not in seen]
    seen.update(fresh)
    return fresh


def _title(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next(
        (line.removeprefix("# ").replace("`", "") for line in lines if line.startswith("# ")), file.stem
    )


def _environment() -> Path:
    """An environment of its own with what the lock says, made anew when that has changed."""
    wanted = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    stamp = _ENVIRONMENT / "lock.sha256"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True)
        subprocess.run(
            [
                *(str(_ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"),
                *("--require-hashes", "--requirement", str(_LOCK)),
            ],
            check=True,
        )
        stamp.write_text(wanted, encoding="utf-8")
    return _ENVIRONMENT


def _serve() -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 8000), handler) as server:
        print("http://127.0.0.1:8000 until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    sys.exit(main())
