"""`make mutants`: each mutation applies, and each fate is told apart."""

from collections import Counter
from pathlib import Path

import pytest

from tools.build import mutants
from tools.build.mutants import Fate, Mutation


def test_every_mutation_applies_and_breaks_one_rule() -> None:
    listed = mutants.mutations()

    assert [one.rule for one in listed if one.text(mutants.CHAINCODE) is None] == []
    assert [one.rule for one in listed if one.old == one.new] == []
    assert [rule for rule, times in Counter(one.rule for one in listed).items() if times > 1] == []


@pytest.fixture
def chaincode(tmp_path: Path) -> Path:
    """A chaincode of one rule and its test."""
    folder = tmp_path / "chaincode" / "batch"
    folder.mkdir(parents=True)
    (folder.parent / "go.mod").write_text("module example/chaincode\n\ngo 1.21\n")
    (folder / "rule.go").write_text(
        "package batch\n\nfunc May(age int) bool { return age >= 18 }\n\nfunc Spare() int { return 1 }\n"
    )
    (folder / "rule_test.go").write_text(
        'package batch\n\nimport "testing"\n\n'
        "func TestMay(t *testing.T) {\n\tif May(17) || !May(18) {\n\t\tt.Fatal()\n\t}\n}\n"
    )
    for name in ("contract", "."):
        (folder.parent / name).mkdir(exist_ok=True)
        package = "main" if name == "." else name
        (folder.parent / name / "empty.go").write_text(f"package {package}\n\nfunc main() {{}}\n")
    return folder.parent


@pytest.mark.parametrize(
    ("old", "new", "fate"),
    [
        ("age >= 18", "age > 18", Fate.KILLED),
        ("return 1", "return 2", Fate.SURVIVED),
        ("age >= 18", "years >= 18", Fate.BROKEN),
        ("age >= 21", "age > 21", Fate.GONE),
        ("return", "return", Fate.GONE),
    ],
)
def test_what_becomes_of_a_mutation(chaincode: Path, tmp_path: Path, old: str, new: str, fate: Fate) -> None:
    assert mutants.try_out(Mutation("a rule", "batch/rule.go", old, new), chaincode, tmp_path) is fate
    assert "age >= 18" in (chaincode / "batch" / "rule.go").read_text()
