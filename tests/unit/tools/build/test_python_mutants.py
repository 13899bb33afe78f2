"""`make mutants OPTIONS=--in=python`: mutmut finds what it needs, and goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.build import python_mutants
from tools.build.mutant_survivors import ROOT, Module

WORDS = Module("cbmdhi/protocol/words.py", ("tests/unit/cbmdhi/protocol/test_words.py",))


def test_mutmut_finds_one_file_of_its_own_and_all_else_where_it_is(tmp_path: Path) -> None:
    python_mutants.prepare(WORDS, tmp_path)

    copy = tmp_path / WORDS.file
    assert copy.read_bytes() == (ROOT / WORDS.file).read_bytes()
    assert not copy.is_symlink()
    mutated = tmp_path / "mutants"
    assert not (mutated / WORDS.file).exists()
    assert (mutated / "cbmdhi/protocol/cid.py").resolve() == ROOT / "cbmdhi/protocol/cid.py"
    assert (mutated / WORDS.tests[0]).resolve() == ROOT / WORDS.tests[0]
    lines = (tmp_path / "setup.cfg").read_text().splitlines()
    assert lines[lines.index("source_paths=") + 1] == f"  {WORDS.file}"
    assert lines[lines.index("pytest_add_cli_args_test_selection=") + 1] == f"  {WORDS.tests[0]}"


@pytest.mark.parametrize("changed", [False, True])
def test_a_run_that_was_broken_off_goes_on_and_new_tests_try_what_was_left(
    tmp_path: Path, changed: bool
) -> None:
    codes = {"killed": 1, "alive": 0, "unreached": 33, "endless": -24, "untried": None}
    meta = tmp_path / "mutants" / f"{WORDS.file}.meta"
    python_mutants.ready(WORDS, tmp_path, anew=False)
    meta.write_text(json.dumps({"exit_code_by_key": codes}))
    if changed:
        (tmp_path / "tests.sha256").write_text("of other tests")

    python_mutants.ready(WORDS, tmp_path, anew=False)

    left = {name: None for name in codes if name != "killed"} | {"killed": 1}
    assert json.loads(meta.read_text())["exit_code_by_key"] == (left if changed else codes)


def test_a_module_that_was_changed_is_tried_anew(tmp_path: Path) -> None:
    python_mutants.ready(WORDS, tmp_path, anew=False)
    meta = tmp_path / "mutants" / f"{WORDS.file}.meta"
    for anew in (False, True):
        meta.write_text("{}")
        if not anew:
            (tmp_path / "code.sha256").write_text("of another text")

        python_mutants.ready(WORDS, tmp_path, anew=anew)

        assert not meta.exists()
