"""The built site: a link, a picture or a place in a page that is not there is told, and the rest is not."""

import subprocess
from pathlib import Path

import pytest

from tools.docs import __main__ as site
from tools.docs.built import dead_links

HOME = """<html><body><h1 id="top">CBMDHI</h1>
<a href="sub/code.html#__codelineno-0-2">to a line</a> <a href="./sub/">to a folder</a> <a href="#top">up</a>
<a href="https://example.org/nothing">elsewhere</a> <a href="//example.org">elsewhere</a>
<img src="light.svg" srcset="light.svg 1x, sub/dark.svg 2x"> <a href="sub/with%20space.html?q=1#a%20b">x</a>
</body></html>"""
CODE = """<html><body><a id="__codelineno-0-1" name="__codelineno-0-1"></a><a id="__codelineno-0-2"></a>
<a href="../index.html#top">home</a> <a href="/index.html">from the top</a></body></html>"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    files = {
        "index.html": HOME,
        "sub/code.html": CODE,
        "sub/index.html": "<p id=x>",
        "sub/with space.html": "<p id='a b'>",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for name in ("light.svg", "sub/dark.svg"):
        (tmp_path / name).write_text("<svg/>")
    return tmp_path


def told(built: Path) -> list[str]:
    return [f"{one.page}:{one.line} {one.target}" for one in dead_links(built)]


def test_a_site_whose_links_all_lead_somewhere_has_no_dead_one(built: Path) -> None:
    assert told(built) == []


@pytest.mark.parametrize(
    "written",
    [
        '<a href="gone.html">a page that is not there</a>',
        '<a href="sub/code.html#__codelineno-0-3">a line after the last</a>',
        '<a href="#bottom">a heading that is not in this page</a>',
        '<a href="../outside.html">above the site</a>',
        '<a href="sub/page.md">a page under its old name</a>',
        '<a href="sub/CODE.html">a page under another case</a>',
        '<a href="">nothing at all</a>',
        '<img src="gone.png">',
        '<source srcset="gone.svg">',
        '<link rel="stylesheet" href="/gone.css">',
        '<script src="gone.js"></script>',
    ],
)
def test_what_leads_nowhere_is_told_with_its_page_and_line(built: Path, written: str) -> None:
    (built / "index.html").write_text(f"{HOME}\n{written}")
    target = written.split('"')[-2 if "rel=" in written else 1]
    assert told(built) == [f"index.html:6 {target}"]


def test_a_picture_for_wide_screens_is_looked_for_as_well(built: Path) -> None:
    (built / "sub" / "dark.svg").unlink()
    assert told(built) == ["index.html:4 sub/dark.svg"]


def test_building_the_site_fails_when_a_page_of_it_has_a_dead_link(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def builds(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess((), 0)

    monkeypatch.setattr(site, "HTML", built)
    monkeypatch.setattr(site, "SITE", built)
    monkeypatch.setattr(site, "ROOT", built.parent)
    monkeypatch.setattr(site, "Stage", lambda _: type("Nothing", (), {"fill": lambda *_: None})())
    monkeypatch.setattr(site, "made", dict)
    monkeypatch.setattr(site, "configured", lambda _: {})
    monkeypatch.setattr(site, "_environment", lambda: built)
    monkeypatch.setattr(site.subprocess, "run", builds)
    assert site.main([]) == 0
    (built / "sub" / "code.html").write_text('<a href="gone.html">')
    assert site.main([]) == 1
    assert "sub/code.html:1: gone.html: there is no such file on the site" in capsys.readouterr().err
