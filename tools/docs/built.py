"""The built site as a browser follows it: every link, picture and anchor has to lead somewhere in it.

The pages' own links are tested before (`tests/unit/tools/docs/test_pages.py`). Between them and the reader
are what moves pages (`tools.docs.stage`), what is made from the code, and the builder. None of them says
where a link has ended. Nothing is fetched: what leads to another site is not followed.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_TARGETS = frozenset({"href", "src", "srcset"})


@dataclass(frozen=True)
class DeadLink:
    """`page` as the site names it, `line` of its HTML from 1, `target` as written there."""

    page: str
    line: int
    target: str
    why: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.target}: {self.why}"


class _Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[tuple[int, str]] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")
            elif name in _TARGETS and value is not None:
                # Each picture of a srcset is followed by the width that it is for.
                shown = value.split(",") if name == "srcset" else [value]
                self.targets += [(self.getpos()[0], one.strip().split(" ")[0]) for one in shown]


def dead_links(site: Path) -> list[DeadLink]:
    """Those of every page in a site's folder, by page and line."""
    pages = {
        file.relative_to(site).as_posix(): _Page(file.read_text(encoding="utf-8"))
        for file in sorted(site.rglob("*.html"))
    }
    files = {file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()}
    dead: list[DeadLink] = []
    for name, page in pages.items():
        for line, target in page.targets:
            if _ELSEWHERE.match(target):
                continue
            if not target:
                dead.append(DeadLink(name, line, target, "a link without a target"))
                continue
            parts = urlsplit(target)
            path, anchor = unquote(parts.path), unquote(parts.fragment)
            led_to = _led_to(name, path)
            if led_to not in files:
                led_to = posixpath.join(led_to, "index.html").removeprefix("./")
            if led_to not in files:
                dead.append(DeadLink(name, line, target, "there is no such file on the site"))
            elif anchor and led_to in pages and anchor not in pages[led_to].anchors:
                dead.append(DeadLink(name, line, target, f"{led_to} has no such place"))
    return dead


def _led_to(page: str, path: str) -> str:
    """The file or folder that a path means. One that begins with `/` is of the site: its page for what is not
    found has such."""
    if not path:
        return page
    folder = "" if path[0] == "/" else posixpath.dirname(page)
    return posixpath.normpath(posixpath.join(folder, path.lstrip("/")))
