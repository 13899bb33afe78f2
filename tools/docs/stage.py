"""The site's pages: docs/, what is read beside it, what is made from the code, and the code itself.

A page links to files of the checkout as a forge shows them. On the site such a link leads to a page with the
file's text, at the line when a place is named; a folder's page lists what is in it.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.docs.pages import DOCS, OUTSIDE, ROOT
from tools.docs.source import Place

_NAMES = {
    "README.md": "project.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CHANGELOG.md": "changelog.md",
    "bench/NOTES.md": "measurements.md",
    "tests/vectors/README.md": "vectors.md",
    "fabric_gateway/README.md": "fabric-gateway.md",
    "fabric_gateway/REFERENCE.md": "fabric-gateway-reference.md",
    "protos/README.md": "protos-recipes.md",
}
_PICTURES = (".png", ".svg", ".jpg")
# Folders that tools make.
_MADE = ("gen", "node_modules", "target")
# How what is text is coloured; anything else is named and not shown.
_LEXERS = {
    "": "text",
    ".in": "text",
    ".mod": "text",
    ".cedar": "text",
    ".xml": "xml",
    ".sh": "bash",
    ".py": "python",
    ".go": "go",
    ".java": "java",
    ".js": "javascript",
    ".proto": "proto",
    ".toml": "toml",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".json": "json",
    ".md": "markdown",
}
_LINK = re.compile(r"(?P<before>!?\[(?P<text>[^\]]*)\]\()(?P<target>[^)\s]+)(?P<after>\))")
_HTML = re.compile(r"""(?P<before>\b(?:href|src|srcset)=")(?P<target>[^"]+)(?P<after>")""")
_PICTURE = re.compile(
    r"<picture>\s*<source[^>]*srcset=\"([^\"]+)\">\s*<img alt=\"([^\"]+)\" src=\"([^\"]+)\">\s*</picture>"
)
_ITEM = re.compile(r"^(\s*)(?:[-*]|\d+\.) ")


class Stage:
    """`folder` is emptied and filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sources: set[Path] = set()

    def fill(self, made: dict[str, str]) -> None:
        """`made`: pages that are made from the code, by their name under docs/."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        for file in sorted(DOCS.rglob("*")):
            if file.suffix == ".md":
                self._page(file)
            elif file.suffix in (*_PICTURES, ".css"):
                self._copy(file, file.relative_to(DOCS).as_posix())
        for name in OUTSIDE:
            if (ROOT / name).exists():
                self._page(ROOT / name)
        for name, text in made.items():
            self._write(name, self._linked(text, DOCS / name, name))
        done: set[Path] = set()
        while waiting := sorted(self._sources - done):
            for file in waiting:
                done.add(file)
                self._source(file)

    def _page(self, file: Path) -> None:
        name = staged_name(file)
        text = file.read_text(encoding="utf-8")
        # The reader of a site chooses dark or light there; its style sheet shows the one that fits.
        text = _PICTURE.sub(r"![\2](\3)\n![\2](\1)", spaced(text))
        self._write(name, self._linked(text, file, name))

    def _linked(self, text: str, file: Path, name: str) -> str:
        def replaced(found: re.Match[str]) -> str:
            place = Place.parse(found.groupdict().get("text", "").strip("`"))
            target = self._target(found["target"], file, name, place)
            before = f"[{breakable(found['text'])}](" if place else found["before"]
            return f"{before}{target}{found['after']}"

        return outside_code(text, lambda part: _HTML.sub(replaced, _LINK.sub(replaced, part)))

    def _target(self, target: str, file: Path, name: str, place: Place | None) -> str:
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z][a-z0-9+.-]*:|//", target):
            return target
        there = Path(os.path.normpath(file.parent / path))
        if not there.exists():  # made, or told by the test of links
            return target
        if there.suffix in _PICTURES:
            staged = self._picture(there)
        elif (staged := staged_name(there)) == "":
            if not (staged := self._source_of(there)):
                return target
            if place:
                anchor = f"__codelineno-0-{place.line}"
        return posixpath.relpath(staged, posixpath.dirname(name) or ".") + (anchor and f"#{anchor}")

    def _picture(self, file: Path) -> str:
        if file.is_relative_to(DOCS):
            return file.relative_to(DOCS).as_posix()
        name = f"pictures/{file.name}"
        self._copy(file, name)
        return name

    def _source(self, file: Path) -> None:
        title = file.relative_to(ROOT).as_posix()
        head = f"---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n# {title}\n\n"
        if file.is_dir():
            self._write(source_name(file), head + self._listing(file))
            return
        text = file.read_text(encoding="utf-8")
        fence = "`" * 8
        body = f'{fence}{{ .{_LEXERS[file.suffix]} linenums="1" }}\n{text.rstrip()}\n{fence}\n'
        self._write(source_name(file), head + body)

    def _listing(self, folder: Path) -> str:
        rows = ["| | |", "|---|---|"]
        for file in sorted(folder.iterdir()):
            if file.name.startswith((".", "__pycache__")) or _is_made(file.name):
                continue
            name = f"`{file.name}{'/' if file.is_dir() else ''}`"
            if where := staged_name(file) or self._source_of(file):
                name = f"[{name}]({posixpath.relpath(where, posixpath.dirname(source_name(folder)))})"
            rows.append(f"| {name} | {said(file)} |")
        return "\n".join(rows) + "\n"

    def _source_of(self, file: Path) -> str:
        """The page that a file or folder will have; empty for what is no text."""
        if not file.is_dir() and file.suffix not in _LEXERS:
            return ""
        self._sources.add(file)
        return source_name(file)

    def _copy(self, file: Path, name: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, self.folder / name)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")


def staged_name(file: Path) -> str:
    """Where a page of the checkout stands on the site; empty when it is no page."""
    name = file.relative_to(ROOT).as_posix()
    if name in _NAMES:
        return _NAMES[name]
    if file.is_relative_to(DOCS) and file.suffix == ".md":
        return file.relative_to(DOCS).as_posix()
    if file == DOCS:
        return "index.md"
    if (index := file / "README.md").is_relative_to(DOCS) and index.exists():
        return index.relative_to(DOCS).as_posix()
    return ""


def source_name(file: Path) -> str:
    """The page of a file or folder of the checkout."""
    name = file.relative_to(ROOT).as_posix()
    return f"source/{name}/index.md" if file.is_dir() else f"source/{name}.md"


def breakable(name: str) -> str:
    """The name of a place, as code that a narrow page may break before each of its parts."""
    parts = re.sub(r"([/:.])", r"<wbr>\1", name.strip("`").replace("_", "&#95;"))
    return f"<code>{parts}</code>"


def _is_made(name: str) -> bool:
    """By a generator, or a tool that keeps what it fetches beside the sources."""
    return "_pb2" in name or name.endswith(".pb.go") or name in _MADE


def said(file: Path) -> str:
    """What a Python file or package says of itself in its first line."""
    module = file / "__init__.py" if file.is_dir() else file
    if module.suffix != ".py" or not module.exists():
        return ""
    told = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return told.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def spaced(text: str) -> str:
    """A list begins after an empty line: a forge does not need it, the site's Markdown does."""
    lines: list[str] = []
    for line in text.splitlines():
        before = lines[-1] if lines else ""
        starts = _ITEM.match(line)
        if (
            starts
            and not starts[1]
            and before.strip()
            and not _ITEM.match(before)
            and not before.startswith(" ")
        ):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """`change` of what lies between blocks of code; a link may go over two lines."""
    return "\n".join(_parts(text, change)) + "\n"


def _parts(text: str, change: Callable[[str], str]) -> Iterator[str]:
    plain: list[str] = []
    for line, is_code in _marked(text.splitlines()):
        if not is_code:
            plain.append(line)
            continue
        if plain:
            yield change("\n".join(plain))
            plain = []
        yield line
    if plain:
        yield change("\n".join(plain))


def _marked(lines: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is code: fenced, or indented after an empty line and in no list."""
    fence, indented, after_empty, in_list = "", False, True, False
    for line in lines:
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if fence or mark:
            closes = mark and fence and mark[1].startswith(fence)
            fence = "" if closes else fence or (mark[1] if mark else "")
            yield line, True
            continue
        if line.startswith("    "):
            indented = (indented or after_empty) and not in_list
        elif line.strip():
            indented = False
            in_list = bool(_ITEM.match(line)) or (in_list and not after_empty)
        after_empty = not line.strip()
        yield line, indented and not after_empty
