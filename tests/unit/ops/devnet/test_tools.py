"""Programs that a network does without are built when they are first used."""

from pathlib import Path

import pytest

from ops.devnet import layout
from ops.devnet.errors import ToolMissing

BUILDER = """
import sys
from pathlib import Path
made = Path(__file__).parents[2] / ".tools" / "bin"
made.mkdir(parents=True)
(made / sys.argv[2]).touch()
(made / "asked").write_text(" ".join(sys.argv[1:]))
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    builder = tmp_path / "tools" / "build" / "run.py"
    builder.parent.mkdir(parents=True)
    builder.write_text(BUILDER)
    monkeypatch.setattr(layout, "ROOT", tmp_path)
    return tmp_path


def test_the_collector_is_built_when_a_network_is_first_traced(checkout: Path) -> None:
    assert layout.tool("otelcol") == checkout / ".tools" / "bin" / "otelcol"
    assert (checkout / ".tools" / "bin" / "asked").read_text() == "tool otelcol"


def test_what_is_built_is_not_built_again(checkout: Path) -> None:
    layout.tool("otelcol")
    (checkout / "tools" / "build" / "run.py").unlink()
    layout.tool("otelcol")


def test_promtool_comes_with_prometheus_and_what_the_build_did_not_make_is_told(checkout: Path) -> None:
    with pytest.raises(ToolMissing, match="promtool is not built"):
        layout.tool("promtool")
    assert (checkout / ".tools" / "bin" / "asked").read_text() == "tool prometheus"


def test_what_every_network_runs_is_not_built_behind_ones_back(checkout: Path) -> None:
    with pytest.raises(ToolMissing, match="ipfs is not built"):
        layout.tool("ipfs")
    assert not (checkout / ".tools").exists()
