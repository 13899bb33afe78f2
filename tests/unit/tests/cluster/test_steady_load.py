"""A caller asks until there is an answer, and a wrong answer is a lost request."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from tests.cluster import steady_load
from tests.cluster.steady_load import Load, RequestLost


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setattr(steady_load, "_AGAIN_SECONDS", 0.0)
    nobody = cast(Any, None)
    return Load(nobody, nobody, {}, callers=0, records=0, pause_seconds=0.0)


def answering(*codes: int) -> Callable[[], Awaitable[None]]:
    """A call that fails with each of the codes in turn, and then is answered."""
    left = list(codes)

    async def ask() -> None:
        if left:
            raise MeshError(left.pop(0), "not yet")

    return ask


async def test_what_is_away_is_asked_again_and_counted(callers: Load) -> None:
    await callers._answered(answering(code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_UNKNOWN_OUTCOME))
    assert callers.tally.again == 2


async def test_an_answer_that_is_wrong_is_not_asked_again(callers: Load) -> None:
    with pytest.raises(MeshError, match="FORBIDDEN"):
        await callers._answered(answering(code_pb2.CODE_FORBIDDEN))
    assert callers.tally.again == 0


async def test_what_never_answers_is_lost(callers: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady_load, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(RequestLost, match="no answer"):
        await callers._answered(answering(*[code_pb2.CODE_UNAVAILABLE] * 1000))
