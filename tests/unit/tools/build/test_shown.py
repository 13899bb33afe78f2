"""What docs/security.md says is shown is shown by tests that exist, and a command runs each."""

import re

import pytest

from tools.build.shown import PYTEST, ROOT, Command, NoSuchTest, commands

PAGE = (ROOT / "docs" / "security.md").read_text()
_NAME = re.compile(r"`([a-z][^`\s]*\.(?:py|go)|(?:unit|contract|e2e|attacks|failover)/[^`\s]*)`")


def rows() -> list[tuple[str, str]]:
    """First and last cell of each row of the page's tables."""
    lines = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    return [
        (cells[0].strip(), cells[-1].strip()) for cells in lines if cells[-1].strip() not in ("by", "tests")
    ]


@pytest.mark.parametrize(("what", "by"), rows(), ids=lambda text: text[:60])
def test_each_row_names_tests_that_a_command_runs(what: str, by: str) -> None:
    names = _NAME.findall(by)
    assert names, f"no test of {what!r} is named"
    assert commands(names)


def test_every_test_that_the_page_names_is_there() -> None:
    assert commands(_NAME.findall(PAGE))


def test_a_name_becomes_the_command_that_runs_it() -> None:
    names = ["handle_consent_follows_test.go", "attacks/test_overload.py", "unit/services/notify"]
    [python, go] = commands(names)
    assert python == Command(".", (*PYTEST, "tests/attacks/test_overload.py", "tests/unit/services/notify"))
    assert (go.folder, go.arguments[:4]) == ("chaincode", ("go", "test", "./batch", "-run"))
    assert "TestA" in go.text


@pytest.mark.parametrize("name", ["attacks/test_nothing.py", "nothing_test.go", "support", "helpers_test.go"])
def test_a_name_of_no_test_is_told(name: str) -> None:
    with pytest.raises(NoSuchTest):
        commands([name])
