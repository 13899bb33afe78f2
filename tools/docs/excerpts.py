"""`make excerpts`: what pages show of the example engines is the code that the tests run.

A page has the comment `<!-- excerpt FILE NAME -->` before a fenced block; the file has
`[start:NAME]` and `[end:NAME]` in comments around what is shown.
"""

from __future__ import annotations

import re
import sys
import textwrap

from tools.docs.pages import ROOT, pages

_BLOCK = re.compile(r"(<!-- excerpt (\S+) (\S+) -->\n```\w*\n)(.*?)(^```$)", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"\[(start|end):\w+\]")


class NoSuchExcerpt(Exception):
    """The file has no part of that name."""


def excerpt(file: str, name: str) -> str:
    """The lines between the marks of that name, without marks and without common indentation."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    begins, ends = (
        [n for n, line in enumerate(lines) if line.strip("<!->/#* ") == f"[{mark}:{name}]"]
        for mark in ("start", "end")
    )
    if len(begins) != 1 or len(ends) != 1 or not begins[0] < ends[0]:
        raise NoSuchExcerpt(f"{file} has not one part {name!r} between marks")
    inside = [line for line in lines[begins[0] + 1 : ends[0]] if not _MARK.search(line)]
    return textwrap.dedent("\n".join(inside).strip("\n").expandtabs(4)) + "\n"


def refreshed(page: str) -> str:
    """A page whose excerpts are what the code is now. Raises NoSuchExcerpt."""
    return _BLOCK.sub(lambda found: found[1] + excerpt(found[2], found[3]) + found[5], page)


def named(page: str) -> list[tuple[str, str]]:
    """File and name of each excerpt of a page."""
    return [(found[2], found[3]) for found in _BLOCK.finditer(page)]


def main() -> int:
    """Write them into all pages; the exit code."""
    for page in pages():
        if (now := refreshed(page.text)) != page.text:
            page.file.write_text(now, encoding="utf-8")
            print(f"wrote {page.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
