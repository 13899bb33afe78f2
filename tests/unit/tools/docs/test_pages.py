"""The documents hold: links lead somewhere, what is named is there, what is to be typed can be typed."""

import ast
import json
import os
import re
import shlex
import subprocess
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from cbmdhi.cli.lazy import Lazy
from cbmdhi.cli.main import app
from tools.docs.pages import DOCS, ROOT, Code, Page, pages, slug
from tools.docs.source import NoSuchPlace, Place

PAGES = [pytest.param(page, id=page.name) for page in pages()]
_TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_MOST_WORDS = 40
# A path of the checkout: its first part is at the top of it. `<member>` and `…` stand for something else.
_PATH = re.compile(r"[\w.-]+(?:/[\w.*{},-]+)*/?")
# What is made when it is built or run is not there in a fresh clone.
_MADE = re.compile(r"^(?:\.devnet|\.venv|\.tools)(?:/|$)|_pb2|^chaincode/gen")
# `cbmdhi/command/v1` is the label of a signature.
_LABEL = re.compile(r"cbmdhi/[a-z-]+/v\d")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: Page) -> None:
    by_file = {one.file: one for one in pages()}
    broken = []
    for link in page.links:
        if link.is_elsewhere:
            continue
        path, _, anchor = link.target.partition("#")
        file = Path(os.path.normpath(page.file.parent / path)) if path else page.file
        if not file.exists():
            broken.append(f"{page.name}:{link.line}: there is no {link.target}")
        elif anchor and (file not in by_file or anchor not in by_file[file].anchors):
            broken.append(f"{page.name}:{link.line}: {link.target} is no heading")
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_every_place_that_a_page_names_is_in_the_code(page: Page) -> None:
    wrong = []
    for link in page.links:
        if place := Place.parse(link.text):
            try:
                assert place.line
            except NoSuchPlace as error:
                wrong.append(f"{page.name}:{link.line}: {error}")
            if (page.file.parent / link.target).resolve() != place.file:
                wrong.append(f"{page.name}:{link.line}: the link of {link.text} leads to {link.target}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_test_that_a_page_names_is_there(page: Page) -> None:
    if page.name == "CHANGELOG.md":
        return  # tells what was
    wrong = [f"{page.name}:{line}: {name}" for name, line in page.named if not is_there(name)]
    assert wrong == []


def is_there(name: str) -> bool:
    """False for a path of the checkout, or a test, that does not exist."""
    if name.startswith("test_") and name.isidentifier():
        return name in places_of_tests()
    if "/" not in name or not _PATH.fullmatch(name) or _MADE.match(name) or _LABEL.fullmatch(name):
        return True
    first = name.split("/")[0]
    if not (ROOT / first).exists():
        return True
    return all(list(ROOT.glob(one.rstrip("/"))) for one in braces(name))


def braces(pattern: str) -> list[str]:
    """`a/{b,c}` as a shell would read it."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [one for choice in found[1].split(",") for one in braces(before + choice + after)]


@lru_cache
def places_of_tests() -> frozenset[str]:
    """Functions and files of tests/."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    functions = [
        re.findall(r"^\s*(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE) for file in files
    ]
    return frozenset([*(file.stem for file in files), *(name for names in functions for name in names)])


@pytest.mark.parametrize("page", PAGES)
def test_no_sentence_of_a_page_is_longer_than_a_reader_holds(page: Page) -> None:
    if page.name == "CHANGELOG.md":
        return
    long = [f"{page.name}:{line}: {one}" for one, line in page.sentences if len(one.split()) > _MOST_WORDS]
    assert long == [], "say it in two"


def test_a_sentence_ends_where_a_reader_may_pause() -> None:
    page = Page.__new__(Page)
    page.text = "# A head\n\nOne `x.y` and\ntwo; three. Four: five\n\n    no prose; here\n"
    assert [one for one, _ in page.sentences] == ["A head", "One x.y and two;", "three.", "Four:", "five"]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_can_be_read_by_what_runs_it(page: Page) -> None:
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        if block.language == "python":
            compile(block.text, where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language in ("sh", "bash"):
            told = subprocess.run(
                ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
            )
            assert not told.returncode, f"{where}: {told.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_has_typed_exists(page: Page) -> None:
    if page.name == "CHANGELOG.md":
        return
    wrong = [
        f"{page.name}:{line}: {command}: {problem}"
        for line, command in typed(page)
        if (problem := problem_of(command))
    ]
    assert wrong == []


def typed(page: Page) -> list[tuple[int, str]]:
    """Lines of blocks, and code in the text, that begin with one of our commands."""
    lines = [
        (block.line + number, line)
        for block in page.blocks
        if block.language in ("", "sh", "bash", "console")
        for number, line in enumerate(_joined(block))
    ]
    return [
        (line, command)
        for line, text in [*lines, *((line, text) for text, line in page.named)]
        for command in _commands(text)
    ]


def _joined(block: Code) -> list[str]:
    return block.text.replace("\\\n", " ").splitlines()


def _commands(line: str) -> list[str]:
    line = re.split(r"\s{3,}|\s+#\s", line.strip().removeprefix("$ ").removeprefix("sudo "))[0]
    parts = [part.strip() for part in re.split(r"\s*(?:;|&&|\|\|?)\s*", line)]
    ours = re.compile(r"(?:(?:\.venv/bin/)?(?:cbmdhi|pytest|python -m)|make) [\w<-]")
    return [part for part in parts if ours.match(part)]


def problem_of(command: str) -> str:
    """What is wrong with a command, without doing it; empty when nothing is."""
    if any(sign in command for sign in "…<>[$"):  # something is to be put there
        command = re.split(r"[…<>\[$]", command)[0]
    try:
        words = shlex.split(command)
    except ValueError as error:
        return str(error)
    if words[0] == "make":
        unknown = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        return ", ".join(f"there is no target {word}" for word in unknown if word not in _TARGETS)
    if words[0].endswith("python"):
        return "" if is_module(words[2]) else f"there is no module {words[2]}"
    if words[0].endswith("pytest"):
        paths = [word.split("::")[0] for word in words[1:] if word.startswith("tests/")]
        return ", ".join(f"there is no {path}" for path in paths if not (ROOT / path).exists())
    return _cli_problem(words[1:])


def is_module(name: str) -> bool:
    """False for a module of the checkout that does not exist."""
    path = ROOT / name.replace(".", "/")
    if not (ROOT / name.split(".")[0]).is_dir():
        return True
    if name.endswith("."):  # one of several
        return path.is_dir()
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


_root = lru_cache(typer.main.get_command)


def _cli_problem(words: list[str]) -> str:
    command = _root(app)
    while words and isinstance(command, TyperGroup):
        if words[0].startswith("-"):
            break
        found = command.commands.get(words[0])
        if found is None:
            return f"there is no command {words[0]}"
        command, words = (found.declared.load() if isinstance(found, Lazy) else found), words[1:]
    known = {option for one in command.params for option in [*one.opts, *one.secondary_opts]} | {"--help"}
    options = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return ", ".join(f"there is no option {option}" for option in options if option not in known)


def test_a_command_that_is_not_there_is_told() -> None:
    assert problem_of("make no-such-target") == "there is no target no-such-target"
    assert problem_of("cbmdhi consent grnt X") == "there is no command grnt"
    assert problem_of("cbmdhi put a.json --patiennt X") == "there is no option --patiennt"
    assert problem_of("cbmdhi put a.json -p X -w engine --json") == ""
    assert problem_of("make bench ROW=reads OPTIONS=--quick") == ""
    assert problem_of("python -m bench.nothing") == "there is no module bench.nothing"
    assert problem_of(".venv/bin/python -m asyncio") == ""
    assert problem_of(".venv/bin/pytest tests/unit/nothing") == "there is no tests/unit/nothing"


def test_a_file_a_test_and_a_place_that_are_not_there_are_told() -> None:
    assert not is_there("services/gateway/nothing.py")
    assert not is_there("services/{ledger,nothing}/config.py")
    assert not is_there("test_nothing_of_the_kind")
    assert is_there("services/{ledger,storage}/config.py")
    with pytest.raises(NoSuchPlace):
        assert Place(ROOT / "tools/docs/pages.py", "Page.nothing").line
    with pytest.raises(NoSuchPlace):
        assert Place(ROOT / "chaincode/batch/process.go", "nothing").line
    assert (
        Place(ROOT / "tools/docs/pages.py", "Page.title").line
        > Place(ROOT / "tools/docs/pages.py", "Page").line
    )


def test_headings_become_the_anchors_of_a_forge() -> None:
    assert slug("What is `pinned`, and why?".replace("`", "")) == "what-is-pinned-and-why"


def test_the_index_of_decisions_names_each_once_by_its_title() -> None:
    index = Page(ROOT / "docs" / "adr" / "README.md")
    decisions = [page for page in pages() if page.name.startswith("docs/adr/0")]
    assert sorted(link.target for link in index.links) == sorted(page.file.name for page in decisions)
    for page in decisions:
        title = re.sub(r"^# \d+\. ", "", page.text.splitlines()[0])
        assert f"| {title}" in index.text, f"the index calls {page.name} otherwise"


def test_a_table_whose_rows_are_stacked_on_a_narrow_page_keeps_the_headings_of_its_cells() -> None:
    css = (DOCS / "site.css").read_text(encoding="utf-8")
    stacked = [
        (page.name, name, head.strip("|").split("|"))
        for page in pages()
        for name, head in re.findall(r'<div class="stacked (\w+)" markdown>\n\n(\|.*)', page.text)
    ]
    assert {name for name, *_ in stacked} >= {"docs/security.md"}
    for page, name, head in stacked:
        labelled = re.findall(rf"\.{name} td:nth-child\((\d)\)::before", css)
        assert labelled == [str(place) for place in range(2, len(head) + 1)], page
