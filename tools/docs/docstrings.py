"""This project's docstrings as Markdown: what is aligned in them would run together as prose.

    rate      operations a second      →   a list: **rate** operations a second
    ├── NotSent                        →   a block of code
        await client.put(…)            →   a block of code, also behind a list

The site's builder has an environment of its own: nothing but the standard library is imported here.
"""

from __future__ import annotations

import re

_ENTRY = re.compile(r"(?P<names>[a-z_][a-zA-Z0-9_]*(?:, [a-z_][a-zA-Z0-9_]*)*) {2,}(?P<text>\S.*)")
_TREE = re.compile(r"[├└│]")


def as_markdown(text: str) -> str:
    """The docstring, with lists where names and texts are aligned, code where it is indented or a tree."""
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n{2,}", text))


def _paragraph(part: str) -> str:
    lines = part.split("\n")
    if all(line.startswith("    ") for line in lines):
        # Indented, it would go on with the list before it.
        return "\n".join(["```python", *(line[4:] for line in lines), "```"])
    if any(_TREE.match(line) for line in lines):
        return "\n".join(f"    {line}" for line in lines)
    if not _ENTRY.fullmatch(lines[0]) or not all(
        _ENTRY.fullmatch(line) or line.startswith("  ") for line in lines
    ):
        return part
    entries: list[str] = []
    for line in lines:
        if found := _ENTRY.fullmatch(line):
            names = ", ".join(f"`{name}`" for name in found["names"].split(", "))
            entries.append(f"- {names}: {found['text']}")
        else:
            entries[-1] += f" {line.strip()}"
    return "\n".join(entries)
