"""State keys are spelt in one place for each language, and tests/vectors/state_keys.json holds both to it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cbmdhi.protocol import state_keys

ROOT = Path(__file__).resolve().parents[4]
# How the key of a document begins, or the name of private data or of a collection.
KEY = re.compile(r"(z|id|reg|org|con|adm|bgq|polv|epoch|wkey|late|rk|wk)/|_implicit_org_")
GO_TEXT = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`([^`]*)`')

IN_PYTHON = ("cbmdhi/protocol/state_keys.py", "tests/unit/cbmdhi/protocol/test_state_keys.py")
IN_GO = "chaincode/state/keys.go"
# What the reason of an emergency is bound to (HPKE), which happens to look like a key of the state.
NO_KEY = {("cbmdhi/protocol/broken_glass.py", "epoch/")}


def files(*patterns: str) -> list[str]:
    """Committed or to be committed, below the top of the checkout."""
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns)
    return subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def python_texts(source: str) -> Iterator[str]:
    """Every text of a program, of an f-string what it begins with; docstrings are no texts."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    within = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values[1:]
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings | within:
            yield node.value


def spelt_in_python() -> set[tuple[str, str]]:
    return {
        (name, text)
        for name in files("*.py")
        # The engines under examples/ are written without our code.
        if name not in IN_PYTHON and not name.startswith("examples/") and (ROOT / name).exists()
        for text in python_texts((ROOT / name).read_text())
        if KEY.match(text)
    }


def spelt_in_go() -> set[tuple[str, str]]:
    return {
        (name, text)
        for name in files("chaincode/*.go")
        if name != IN_GO and not name.endswith("_test.go") and (ROOT / name).exists()
        for line in (ROOT / name).read_text().splitlines()
        if not line.lstrip().startswith("//")
        for text in ("".join(found) for found in GO_TEXT.findall(line))
        if KEY.match(text)
    }


def test_no_other_file_of_python_spells_a_key() -> None:
    assert spelt_in_python() - NO_KEY == set()


def test_no_other_file_of_the_chaincode_spells_a_key() -> None:
    assert spelt_in_go() == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('key = f"z/{record}/rec/{version:08x}"', ["z/"]),
        ('key = "id/" + address', ["id/"]),
        ('key = f"{kind}/{address}"', []),
        ('def f():\n    """z/… is what lies under it."""', []),
        ('path = f"{base}/id/{address}"', []),
    ],
)
def test_a_spelling_is_found_wherever_it_stands(source: str, found: list[str]) -> None:
    assert [text for text in python_texts(source) if KEY.match(text)] == found


def test_what_lies_under_a_key_is_told_by_it() -> None:
    record, entry = state_keys.record_key("one", 0x1F), state_keys.audit_key("two", "cb1a")
    assert [state_keys.kind_of(key) for key in (record, entry)] == [state_keys.RECORD, state_keys.AUDIT]
    assert state_keys.kind_of(state_keys.identity_key("cb1a")) == state_keys.IDENTITY
    assert state_keys.kind_of(state_keys.epoch_key(7)) == state_keys.EPOCH
    assert state_keys.kind_of(state_keys.POLICY) == state_keys.POLICY
    assert state_keys.record_of(record) == ("one", 0x1F)
    assert state_keys.kind_of("z/one/bgr/cb1a/more") == "bgr"
    assert state_keys.is_sealed_record_key(state_keys.sealed_record_key_name("cb1a"))
    assert not state_keys.is_sealed_record_key(state_keys.sealed_writer_key_name("MercyMSP", "one"))


@pytest.mark.parametrize(
    "key",
    [state_keys.audit_key("one", "cb1a"), state_keys.identity_key("one"), "z/one/rec", "z/one/rec/later"],
)
def test_only_the_key_of_a_record_version_names_one(key: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        state_keys.record_of(key)


def test_the_state_holds_three_epochs() -> None:
    assert {state_keys.epoch_key(number) for number in range(30)} == set(state_keys.EPOCH_KEYS)
