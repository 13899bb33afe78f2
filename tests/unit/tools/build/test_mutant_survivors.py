"""What is listed of mutants is there, and is what a mutant does and nothing more."""

from __future__ import annotations

from collections import Counter

from tools.build import mutant_survivors
from tools.build.mutant_survivors import ROOT, Found, Mutant, Survivor

OFF_BY_ONE = Mutant("a.f", "return a > 1", "return a >= 1")


def test_each_module_of_the_protocol_and_of_the_domains_is_tried_by_tests_that_are_there() -> None:
    modules, survivors, kinds = mutant_survivors.listed()
    pure = [*ROOT.glob("cbmdhi/protocol/*.py"), *ROOT.glob("services/*/domain/*.py")]

    assert {module.file for module in modules} == {
        path.relative_to(ROOT).as_posix() for path in pure if path.name != "__init__.py"
    }
    for module in modules:
        assert module.tests, module.file
        assert all((ROOT / test).is_file() for test in module.tests), module.file
    assert all(one.reason for one in (*survivors, *kinds))


def test_a_survivor_is_listed_for_a_text_that_is_still_in_its_module() -> None:
    modules, survivors, _ = mutant_survivors.listed()

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

    assert {mutant: mutant_survivors.function_of(mutant) for mutant in names} == names


def test_a_change_is_known_by_its_lines_wherever_they_stand() -> None:
    diff = "--- a.py\n+++ a.py\n@@ -1,3 +1,3 @@\n def f(a):\n-    return a > 1\n+    return a >= 1\n"

    assert mutant_survivors.change(diff) == (OFF_BY_ONE.was, OFF_BY_ONE.becomes)


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
    texts = mutant_survivors.prose(source)
    assert mutant_survivors.prose('return Failure(GIVE_UP, "come later")') == {'"come later"'}
    was = 'raise Refused("NOT_THERE", f"no such record: {x}", "record_id")'

    assert texts == {'f"no such record: {x}"', '"a path"'}
    assert mutant_survivors.only_prose(Mutant("a.f", was, was.replace("no such", "XXno such")), texts)
    assert mutant_survivors.only_prose(
        Mutant("a.f", was, was.replace('f"no such record: {x}"', "None")), texts
    )
    for code in ('"NOT_THERE"', '"record_id"'):
        assert not mutant_survivors.only_prose(Mutant("a.f", was, was.replace(code, "None")), texts)


def test_what_makes_no_difference_anywhere_is_that_change_alone() -> None:
    kind = mutant_survivors.Kind("deterministic=True", ("deterministic=None",), "there are no maps")
    was = "return sign(header.SerializeToString(deterministic=True))"

    assert kind.is_of(Mutant("a.f", was, was.replace("True", "None")))
    assert not kind.is_of(Mutant("a.f", was, was.replace("True", "False")))
    assert not kind.is_of(Mutant("a.f", was, "return sign(None)"))
    assert not kind.is_of(Mutant("a.f", was, was.replace("sign", "other").replace("True", "None")))


def test_the_type_in_a_cast_makes_no_difference_and_what_is_cast_does() -> None:
    for was, becomes in (
        ('return cast("dict[str, Any]", value).get(name)', "return cast(None, value).get(name)"),
        ('return cast("Json", value)', 'return cast("XXJsonXX", value)'),
        ("return cast(ec.EllipticCurve, value)", "return cast(None, value)"),
        ("return cast(dict[str, Any], value)", "return cast(None, value)"),
    ):
        assert mutant_survivors.only_a_cast(Mutant("a.f", was, becomes))
        assert not mutant_survivors.only_a_cast(Mutant("a.f", was, becomes.replace("value", "None")))
        assert not mutant_survivors.only_a_cast(Mutant("a.f", was, was))
