"""A Markdown page as data: its links, its headings, its code blocks, and what it names in code marks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Pages outside docs/: the first that a visitor sees, and those that lie beside what they are about.
OUTSIDE = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "bench/NOTES.md"),
    *("tests/vectors/README.md", "fabric_gateway/README.md", "fabric_gateway/REFERENCE.md"),
    "protos/README.md",
)
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+")
_HTML_TARGET = re.compile(r"""\b(?:href|src|srcset)="([^"]+)\"""")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")


@dataclass(frozen=True)
class Link:
    """`text` as it reads, without marks; `target` as written; `line` from 1."""

    text: str
    target: str
    line: int

    @property
    def is_elsewhere(self) -> bool:
        """True for another site, an e-mail address and the like."""
        return bool(_ELSEWHERE.match(self.target))


@dataclass(frozen=True)
class Code:
    """A block of code. `language` is empty for an indented block; `line` is its first line, from 1."""

    language: str
    text: str
    line: int


class Page:
    """One Markdown file of the checkout."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.name = file.relative_to(ROOT).as_posix()
        self.text = file.read_text(encoding="utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    @cached_property
    def title(self) -> str:
        """The first heading."""
        return next((text for _, text in self._headings()), self.file.stem)

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What `#…` can point at: the headings, as a forge and the site spell them, and ids in HTML."""
        written = re.findall(r'\b(?:id|name)="([^"]+)"', self.text)
        return frozenset([*(slug(text) for _, text in self._headings()), *written])

    @cached_property
    def links(self) -> list[Link]:
        """All links and pictures, those in HTML too."""
        return [link for token in self._tokens for link in _links(token)]

    @cached_property
    def blocks(self) -> list[Code]:
        """All blocks of code, fenced and indented."""
        return [
            Code(token.info.strip().split(" ")[0], token.content, (token.map or [0])[0] + 1)
            for token in self._tokens
            if token.type in ("fence", "code_block")
        ]

    @cached_property
    def named(self) -> list[tuple[str, int]]:
        """What stands between single backticks, and the line of its paragraph."""
        return [
            (child.content, _line(token))
            for token in self._tokens
            for child in token.children or ()
            if child.type == "code_inline"
        ]

    @cached_property
    def sentences(self) -> list[tuple[str, int]]:
        """What is read as prose, and the line of its paragraph. A colon and a semicolon end one as well."""
        return [
            (sentence, _line(token))
            for token in self._tokens
            if token.type == "inline"
            for sentence in _SENTENCE_END.split(
                "".join(" " if one.type == "softbreak" else one.content for one in token.children or ())
            )
        ]

    def _headings(self) -> Iterator[tuple[int, str]]:
        for before, token in zip(self._tokens, self._tokens[1:], strict=False):
            if before.type == "heading_open":
                yield int(before.tag[1:]), _plain(token)


@lru_cache(maxsize=1)
def pages() -> tuple[Page, ...]:
    """Every page of the documents."""
    there = [ROOT / name for name in OUTSIDE if (ROOT / name).exists()]
    return tuple(Page(file) for file in [*there, *sorted(DOCS.rglob("*.md"))])


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, without punctuation, a hyphen for each space."""
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def _links(token: Token) -> Iterator[Link]:
    line = _line(token)
    if token.type in ("html_block", "html_inline"):
        yield from (Link("", target.split(" ")[0], line) for target in _HTML_TARGET.findall(token.content))
    opened: list[tuple[str, int]] = []
    children = token.children or []
    for number, child in enumerate(children):
        if child.type == "link_open":
            opened.append((str(child.attrGet("href")), number))
        elif child.type == "link_close":
            target, begun = opened.pop()
            yield Link("".join(one.content for one in children[begun:number]), target, line)
        elif child.type == "image":
            yield Link(child.content, str(child.attrGet("src")), line)
        elif child.type == "html_inline":
            yield from _links(child)


def _plain(token: Token) -> str:
    return "".join(child.content for child in token.children or ())


def _line(token: Token) -> int:
    return (token.map or [0])[0] + 1
