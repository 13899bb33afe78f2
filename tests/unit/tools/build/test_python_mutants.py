"""`make mutants OPTIONS=--in=python`: what mutmut found is read as it is; what is listed is there."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tools.build import python_mutants
from tools.build.python_mutants import ROOT, Found, Module, Mutant, Survivor

WORDS = Module("cbmdhi/protocol/words.py", ("tests/unit/cbmdhi/protocol/test_words.py",))
OFF_BY_ONE = Mutant("a.f", "return a > 1", "return a >= 1")


def test_each_module_of_the_protocol_and_of_the_domains_is_tried_by_tests_that_are_there() -> None:
    modules, survivors, kinds = python_mutants.listed()
    pure = [*ROOT.glob("cbmdhi/protocol/*.py"), *ROOT.glob("services/*/domain/*.py")]

    assert {module.file for module in modules} == {
        path.relative_to(ROOT).as_posix() for path in pure if path.name != "__init__.py"
    }
    for module in modules:
        assert module.tests, module.file
        assert all((ROOT / test).is_file() for test in module.tests), module.file
    assert all(one.reason for one in (*survivors, *kinds))


def test_a_survivor_is_listed_for_a_text_that_is_still_in_its_module() -> None:
    modules, survivors, _ = python_mutants.listed()

    for one in survivors:
        (module,) = (module for module in modules if one.mutant.function.startswith(f"{module.name}."))
        lines = {line.strip() for line in (ROOT / module.file).read_text().splitlines()}
        assert set(one.mutant.was.splitlines()) <= lines, one


def test_a_mutant_belongs_to_its_function() -> None:
    names = {
        "cbmdhi.protocol.words.x_check_text__mutmut_3": "cbmdhi.protocol.words.check_text",
        "cbmdhi.protocol.words.x__is_cid__mutmut_12": "cbmdhi.protocol.words._is_cid",
        "services.a.domain.lease.xǁQuotaǁhas_room__mutmut_1": "services.a.domain.lease.Quota.has_room",
    }

    assert {mutant: python_mutants.function_of(mutant) for mutant in names} == names


def test_a_change_is_known_by_its_lines_wherever_they_stand() -> None:
    diff = "--- a.py\n+++ a.py\n@@ -1,3 +1,3 @@\n def f(a):\n-    return a > 1\n+    return a >= 1\n"

    assert python_mutants.change(diff) == (OFF_BY_ONE.was, OFF_BY_ONE.becomes)


def test_who_survives_without_a_reason_and_who_has_one_in_vain_are_both_told() -> None:
    other = Mutant("a.f", "return a > 1", "return a > 2")
    found = Found(killed=7, ended=0, left=[OFF_BY_ONE, OFF_BY_ONE])

    assert found.against([Survivor(OFF_BY_ONE, "1 never comes", times=2)]) == (Counter(), Counter())
    assert found.against([Survivor(OFF_BY_ONE, "1 never comes")]) == (Counter([OFF_BY_ONE]), Counter())
    assert found.against([Survivor(other, "2 never comes")]) == (
        Counter([OFF_BY_ONE, OFF_BY_ONE]),
        Counter([other]),
    )


def test_the_words_of_an_error_may_change_and_its_code_and_path_may_not() -> None:
    source = 'def f():\n    raise Refused("NOT_THERE", f"no such record: {x}", "a path")\n    g("a b")\n'
    texts = python_mutants.prose(source)
    was = 'raise Refused("NOT_THERE", f"no such record: {x}", "record_id")'

    assert texts == {'f"no such record: {x}"', '"a path"'}
    assert python_mutants.only_prose(Mutant("a.f", was, was.replace("no such", "XXno such")), texts)
    assert python_mutants.only_prose(Mutant("a.f", was, was.replace('f"no such record: {x}"', "None")), texts)
    for code in ('"NOT_THERE"', '"record_id"'):
        assert not python_mutants.only_prose(Mutant("a.f", was, was.replace(code, "None")), texts)


def test_what_makes_no_difference_anywhere_is_that_change_alone() -> None:
    kind = python_mutants.Kind("deterministic=True", ("deterministic=None",), "there are no maps")
    was = "return sign(header.SerializeToString(deterministic=True))"

    assert kind.is_of(Mutant("a.f", was, was.replace("True", "None")))
    assert not kind.is_of(Mutant("a.f", was, was.replace("True", "False")))
    assert not kind.is_of(Mutant("a.f", was, "return sign(None)"))
    assert not kind.is_of(Mutant("a.f", was, was.replace("sign", "other").replace("True", "None")))


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
