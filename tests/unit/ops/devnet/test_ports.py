"""Choosing ports so that two networks that start side by side do not meet."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.devnet import ports, state
from ops.devnet.errors import DevnetError, PortTaken
from ops.devnet.layout import Home
from ops.devnet.topology import BLOCK


@pytest.fixture(autouse=True)
def notes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens, with room for a block around it."""
    with socket.socket() as server:
        for candidate in range(21_000, 30_000, 7):
            try:
                server.bind(("127.0.0.1", candidate))
                break
            except OSError:
                continue
        server.listen()
        yield server.getsockname()[1]


def made(home: Path, base: int) -> None:
    """What a network that was made leaves behind."""
    home.mkdir()
    state.save(Home(home), state.State(state.VERSION, base, complete=True, members=2))


def test_a_block_of_a_network_that_is_down_is_not_given_away(tmp_path: Path) -> None:
    first = ports.choose(tmp_path / "first", None)
    made(tmp_path / "first", first.base)
    assert ports.choose(tmp_path / "second", None).base >= first.base + BLOCK


def test_a_block_of_a_network_that_is_gone_is_given_again(tmp_path: Path) -> None:
    first = ports.choose(tmp_path / "first", None)
    assert ports.choose(tmp_path / "second", None).base == first.base


def test_a_wanted_block_with_a_taken_port_is_refused_with_the_port_and_its_owner(
    tmp_path: Path, taken: int
) -> None:
    with pytest.raises(PortTaken, match=f"Port {taken}, which ordering-orderer listens on, .* `.*process"):
        ports.choose(tmp_path / "home", taken - 2)


@pytest.mark.parametrize("base", [0, 80, 65_535, 70_000])
def test_a_base_that_leaves_no_room_is_refused(tmp_path: Path, base: int) -> None:
    with pytest.raises(DevnetError, match="Choose one from 1024"):
        ports.choose(tmp_path / "home", base)
