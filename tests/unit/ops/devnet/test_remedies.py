"""What a person is told to type is for the network that they asked about, and for no other."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.devnet import DevnetError, Network, doctor, ports, state, status
from ops.devnet.layout import ROOT, Home, command_for

# Of one network, whichever a bare command means. Not `cbmdhi backup` and `restore`, which name files.
BARE = re.compile(r"\b(make|cbmdhi) (up|down|clean|status|doctor|demo|trace|consent)\b")
ANY = re.compile(r"\b(make|cbmdhi) (up|down|clean|status|doctor)\b")
# They speak of the checkout or of a cluster.
ELSEWHERE = ("build", "k8s")


def said(source: str) -> Iterator[str]:
    """Every text of a module that a person may be shown, but its docstrings, options' help and titles."""
    tree = ast.parse(source)
    not_said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    not_said |= {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in ("help", "title")
        for part in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in not_said:
            yield node.value


def test_no_text_names_a_command_without_the_network_that_it_is_for() -> None:
    """What was seen: fourteen remedies named `make clean` or `make up` although `--home` was given."""
    files = [
        file
        for file in (ROOT / "cbmdhi").rglob("*.py")
        if file.relative_to(ROOT / "cbmdhi").parts[0] not in ELSEWHERE
    ]
    assert len(files) > 50
    bare = [f"{file}: {text}" for file in files for text in said(file.read_text()) if BARE.search(text)]
    assert bare == []


def test_a_bare_command_would_be_found() -> None:
    assert [text for text in said('raise Error("x", f"Run: make up, {there}")') if BARE.search(text)]
    assert not [text for text in said('def up():\n    """Mended by `make up`."""') if BARE.search(text)]


def test_the_checkouts_own_network_is_makes_and_any_other_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CBMDHI_HOME", raising=False)
    own, other = ROOT / ".devnet", tmp_path / "a network"
    assert command_for(own, "clean") == "make clean"
    assert command_for(own, "up", "--traced").endswith("cbmdhi up --traced")
    assert command_for(other, "clean").endswith(f"cbmdhi clean --home '{other}'")
    # What `make` would do then is another network's.
    monkeypatch.setenv("CBMDHI_HOME", str(other))
    assert command_for(own, "clean").endswith(f"cbmdhi clean --home {own}")
    assert command_for(other, "clean").endswith(f"cbmdhi clean --home '{other}'")


def names_only(text: str, home: Path) -> bool:
    """True when every command of the text ends with the network's folder, and there is one."""
    commands = [text[match.start() :] for match in ANY.finditer(text)]
    named = [
        each for each in commands if re.match(rf"\S+ \S+ --home {re.escape(shlex.quote(str(home)))}", each)
    ]
    return bool(commands) and named == commands


STATES = {
    "nothing": None,
    "damaged": "{",
    "another version": json.dumps({"version": 1, "base_port": 17400, "complete": True}),
    "interrupted": json.dumps(
        {"version": state.VERSION, "base_port": 17400, "complete": False, "members": 2}
    ),
    "down": json.dumps({"version": state.VERSION, "base_port": 17400, "complete": True, "members": 2}),
}


@pytest.mark.parametrize("found", STATES)
def test_the_doctor_names_the_network_that_it_looked_at(
    tmp_path: Path, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another network may run on this machine; it is not what is looked at.
    monkeypatch.setattr(ports, "_free", lambda _: True)
    home = tmp_path / "net"
    home.mkdir()
    text = STATES[found]
    if text is not None:
        (home / "network.json").write_text(text)

    mends = [each.mend for each in doctor.examine(Network(home)) if ANY.search(each.mend)]

    assert mends
    assert [mend for mend in mends if not names_only(mend, home)] == []


def test_status_and_errors_name_it_too(tmp_path: Path) -> None:
    network = Network(tmp_path / "net")
    assert names_only(status.of(network).problems[0], network.home)
    with pytest.raises(DevnetError) as absent:
        network.ports()
    assert names_only(absent.value.remedy, network.home)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "network.json").write_text(STATES["another version"] or "")
    with pytest.raises(DevnetError) as old:
        state.read(Home(tmp_path / "net"))
    assert names_only(old.value.remedy, network.home)


def test_a_taken_port_names_the_network_whose_port_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_free", lambda _: False)
    monkeypatch.setattr(ports.psutil, "net_connections", lambda _: [])
    with pytest.raises(DevnetError) as taken:
        ports.require_free(tmp_path, ports.Ports(17_400))
    assert names_only(taken.value.remedy, tmp_path)
