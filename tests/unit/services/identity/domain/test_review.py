"""A page of what waits is named by the registration before it, and by nothing else."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from services.identity.domain import review
from services.identity.domain.review import Waiting
from services.runtime.refusal import Refused

ADDRESS = "cb1" + "a" * 32


@pytest.mark.parametrize("at_ms", [0, 1_800_000_000_000, 9_999_999_999_999_999])
def test_a_token_names_the_place_that_it_was_made_for(at_ms: int) -> None:
    one = Waiting(ADDRESS, "patient", "MercyMSP", frozenset(), at_ms)
    assert review.place_named(review.token_of(one)) == review.place_of(one) == (at_ms, ADDRESS)


def test_no_token_names_the_first_place() -> None:
    assert review.place_named("") == review.FIRST


@pytest.mark.parametrize(
    "token",
    [
        f"12345678901234567.{ADDRESS}",
        f"1.2.{ADDRESS}",
        f"\u0661.{ADDRESS}",
        f".{ADDRESS}",
        f"-1.{ADDRESS}",
        ADDRESS,
        "1.",
        "1.jane",
    ],
)
def test_what_is_no_token_of_the_list_is_refused(token: str) -> None:
    with pytest.raises(Refused) as caught:
        review.place_named(token)
    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "page_token")
