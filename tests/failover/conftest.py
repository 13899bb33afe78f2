"""A network of three members, gone afterwards; `--every` runs what `make failover` runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from ops.devnet import Network
from tests.failover.going_on import Stopwatch
from tests.support.mesh import patient, people

__all__ = ["network", "patient", "people"]

_MEASURED = pytest.StashKey[Stopwatch]()


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    running = Network(tmp_path_factory.mktemp("three"), members=3)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(running.clean)
        running.up()
        yield running


@pytest.fixture
def stopwatch(request: pytest.FixtureRequest) -> Stopwatch:
    """Notes how long it took until the mesh went on; told at the end."""
    return request.config.stash.setdefault(_MEASURED, Stopwatch())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", action="store_true", help="every member and program away in turn, not some")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "in_turn(name, shortly, at_length): what is away, one after the other")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`shortly` are tried always, `at_length` with --every as well."""
    for mark in metafunc.definition.iter_markers("in_turn"):
        away = [*mark.kwargs["shortly"]]
        if metafunc.config.getoption("--every", default=False):
            away += mark.kwargs["at_length"]
        metafunc.parametrize(mark.args[0], away)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_MEASURED, Stopwatch()).lines():
        terminalreporter.write_line(line)
