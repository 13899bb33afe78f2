"""The site: pages are staged with links that lead somewhere, references are made from the code."""

from pathlib import Path

import pytest

from tools.docs import __main__ as site
from tools.docs import configuration, protos, sdk, stage
from tools.docs.docstrings import as_markdown
from tools.docs.pages import DOCS, ROOT
from tools.docs.source import Place
from tools.docs.stage import Stage


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    Stage(folder).fill(site.made())
    return folder


def test_every_page_has_a_place_in_the_nav(staged: Path) -> None:
    assert site.configured(staged)["project"]["nav"]
    (staged / "lost.md").write_text("# Nobody finds me\n")
    with pytest.raises(site.NotInNav, match=r"lost\.md"):
        site.configured(staged)
    (staged / "lost.md").unlink()


def test_a_place_in_the_code_becomes_a_link_to_its_line(staged: Path) -> None:
    page = (staged / "journeys.md").read_text()
    place = Place(ROOT / "chaincode" / "batch" / "process.go", "Rules.Process")
    assert f"(source/chaincode/batch/process.go.md#__codelineno-0-{place.line})" in page
    # On a narrow page the name is broken at its parts, and is copied as one.
    assert "[<code>chaincode<wbr>/batch<wbr>/process<wbr>.go<wbr>:Rules<wbr>.Process</code>](" in page
    text = (staged / "source" / "chaincode" / "batch" / "process.go.md").read_text()
    assert "func (rules *Rules) Process" in text


def test_a_folder_of_the_code_becomes_a_list_of_what_is_in_it(staged: Path) -> None:
    listing = (staged / "source" / "services" / "index.md").read_text()
    assert "[`gateway/`](gateway/index.md)" in listing


def test_a_link_over_two_lines_and_a_picture_elsewhere_are_led_anew(tmp_path: Path) -> None:
    made = {
        "reference/x.md": "[two\nlines](../slo.md) ![p](../../bench/results/replicas.png)\n\n    [c](../d)\n"
    }
    Stage(tmp_path).fill(made)
    text = (tmp_path / "reference" / "x.md").read_text()
    assert "[two\nlines](../slo.md)" in text
    assert "![p](../pictures/replicas.png)" in text
    assert (tmp_path / "pictures" / "replicas.png").exists()
    assert "    [c](../d)" in text


def test_a_picture_in_two_colours_is_both_for_the_style_sheet_to_choose(staged: Path) -> None:
    text = (staged / "index.md").read_text()
    assert "](mesh-light.svg)\n![" in text
    assert "](mesh-dark.svg)" in text
    assert "<picture>" not in text


def test_a_list_begins_after_an_empty_line() -> None:
    assert stage.spaced("text:\n- a\n- b\n") == "text:\n\n- a\n- b\n"
    assert stage.spaced("- a\n  more\n- b\n") == "- a\n  more\n- b\n"


def test_the_configuration_page_has_every_field_of_every_service() -> None:
    page = configuration.page()
    assert "| `drain_seconds` | number | `10.0` (≥ 0, ≤ 300) | how long" in page
    assert "| `decision_max_age_seconds` | number | `600` (> 0, ≤ 600) | after its commit" in page
    for name in configuration.SERVICES:
        assert f"\n## {name}\n" in page


def test_the_protos_page_has_what_stands_in_the_comments() -> None:
    pages = protos.pages()
    assert set(pages) == {"command", "gateway", "identity", "ledger", "notify", "storage"}
    assert "### IngestService.Ingest" in pages["gateway"]
    assert (
        "stream of [IngestRequest](#ingestrequest) → stream of [IngestResponse](#ingestresponse)"
        in pages["gateway"]
    )
    assert "(command.md#" in pages["gateway"]


def test_the_sdk_pages_show_what_is_there() -> None:
    shown = [line[4:] for text in sdk.pages().values() for line in text.splitlines() if line[:4] == "::: "]
    assert shown
    for name in shown:
        module, _, symbol = name.rpartition(".")
        file = ROOT / (name.replace(".", "/") + ".py")
        if not file.exists():
            is_package = not (ROOT / (module.replace(".", "/") + ".py")).exists()
            file = (
                ROOT / module.replace(".", "/") / "__init__.py"
                if is_package
                else ROOT / (module.replace(".", "/") + ".py")
            )
            assert Place(file, symbol).line


def test_what_is_aligned_in_a_docstring_becomes_a_list_and_a_tree_stays_one() -> None:
    told = "Load.\n\nrate     a second\nusers, streams  how many\n         of each\n\nMore   words."
    assert as_markdown(told) == (
        "Load.\n\n- `rate`: a second\n- `users`, `streams`: how many of each\n\nMore   words."
    )
    assert as_markdown("Error\n├── NotSent\n└── Misuse") == "    Error\n    ├── NotSent\n    └── Misuse"
    example = "rate  a second\n\n    async with mesh as one:\n        await one.go()"
    assert as_markdown(example) == (
        "- `rate`: a second\n\n```python\nasync with mesh as one:\n    await one.go()\n```"
    )
    assert as_markdown("Plain prose\nover two lines.") == "Plain prose\nover two lines."


def test_every_setting_of_the_site_is_where_the_builder_looks() -> None:
    assert (DOCS / "site.toml").exists()
    assert (DOCS / "site.css").exists()
