"""What lies at the top of the checkout for editors, forges and hooks says the same as what it stands for."""

import html
import re
import subprocess
import tomllib

import yaml

from ops.demo.story import Story
from tools.build import checks
from tools.docs import diagram
from tools.docs.pages import DOCS, ROOT


def test_the_hooks_before_a_commit_are_the_stages_of_lint() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    titles = [stage.title for stage in checks.lint()]
    assert [hook["name"] for hook in repository["hooks"]] == titles
    for hook, title in zip(repository["hooks"], titles, strict=True):
        assert hook["entry"].endswith(f'tools.build.checks lint --only "{title}"')


def test_the_forge_runs_what_ci_runs_and_nothing_beside_it() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]


def test_editors_are_told_the_line_length_that_the_linter_asks_for() -> None:
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert f"max_line_length = {ruff['line-length']}" in (ROOT / ".editorconfig").read_text()


def test_both_pictures_of_the_mesh_are_the_one_drawing() -> None:
    for theme, file in diagram.FILES.items():
        assert file.read_text() == diagram.drawn(theme), "run: .venv/bin/python -m tools.docs.diagram"


def test_the_sites_lock_is_of_what_is_asked_for() -> None:
    locked = (DOCS / "requirements.lock").read_text()
    asked = [line for line in (DOCS / "requirements.in").read_text().splitlines() if line and line[0] != "#"]
    for one in asked:
        assert f"\n{one.replace('[python]', '')}" in f"\n{locked}", f"{one}: run make lock"


def test_the_readme_prints_steps_of_the_demos_story_under_their_numbers() -> None:
    titles = [title for title, _ in Story.__new__(Story).steps]
    numbered = re.findall(r"^ {4} ?(\d+)\. (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(numbered) >= 5
    for number, title in numbered:
        assert titles[int(number) - 1] == title


def test_the_demos_picture_shows_the_story_as_it_is_told() -> None:
    shown = html.unescape("".join(re.findall(r">([^<]+)</text>", (DOCS / "demo.svg").read_text())))
    for title, _ in Story.__new__(Story).steps:
        assert title in shown.replace("\xa0", " "), "run: cbmdhi demo --picture docs/demo.svg"


def test_the_layout_names_every_folder_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {name.split("/")[0] for name in listed.splitlines() if "/" in name and name[0] != "."}
    layout = (ROOT / "CONTRIBUTING.md").read_text().split("## The layout")[1].split("\n## ")[0]
    first_cells = " ".join(re.findall(r"^\| (`[^|]*)", layout, re.MULTILINE))
    assert folders <= set(re.findall(r"`([a-z_]+)`", first_cells))
