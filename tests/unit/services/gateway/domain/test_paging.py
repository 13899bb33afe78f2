"""A page token opens for the question that it was made for, and tells nothing."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain import paging
from services.gateway.domain.paging import PagePosition, PageTokens
from services.runtime.refusal import Refused

TOKENS = PageTokens(b"secret")
PLACE = PagePosition("ledger/7", 12)
QUESTION = ("cb1a", "observations")


def test_a_token_names_the_place_for_the_same_question_also_at_another_replica() -> None:
    token = TOKENS.seal(PLACE, *QUESTION)
    assert PageTokens(b"secret").open(token, *QUESTION) == PLACE
    assert TOKENS.open("", *QUESTION) == paging.START == PagePosition("", 0)


def test_all_tokens_have_one_length_and_no_two_are_alike() -> None:
    places = [paging.START, PLACE, PagePosition("l" * 150, 10**9)]
    tokens = [TOKENS.seal(place, *QUESTION) for place in [*places, PLACE]]
    assert len(set(tokens)) == 4
    assert {len(token) for token in tokens} == {-(-(12 + 192 + 16) * 4 // 3)}
    assert all(token.isascii() and not set(token) & set("+/=") for token in tokens)
    assert [TOKENS.open(token, *QUESTION) for token in tokens] == [*places, PLACE]


def test_no_other_question_or_gateway_opens_it_and_what_is_none_is_refused() -> None:
    token = TOKENS.seal(PLACE, *QUESTION)
    asked = [
        (TOKENS, token, ("cb1b", "observations")),
        (TOKENS, token, ("cb1aobservations",)),
        (TOKENS, token, ()),
        (PageTokens(b"another"), token, QUESTION),
        (TOKENS, token[:-4], QUESTION),
        (TOKENS, token + "!", QUESTION),
        (TOKENS, f"{token[:8]}!!!!{token[8:]}", QUESTION),
        (TOKENS, "x", QUESTION),
        (TOKENS, "\u00fc", QUESTION),
    ]
    for tokens, one, question in asked:
        with pytest.raises(Refused) as caught:
            tokens.open(one, *question)
        assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "page_token")
