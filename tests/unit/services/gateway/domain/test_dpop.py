"""A proof of possession is for one request, one token and one minute."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import ECKey

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain import dpop
from services.runtime.refusal import Refused
from tests.support.fakes.token_service import DpopKey

URL = "https://gateway.mercy:8443/fhir/Observation/1"
NOW = 1_800_000_000
TOKEN = "token"
KEY = DpopKey()


def proof(**changed: Any) -> str:
    return KEY.proof("GET", URL, TOKEN, **{"iat": NOW, "jti": "one", **changed})


def verify(proof: str, *urls: str, token: str | None = TOKEN, now: float = NOW) -> dpop.Proof:
    return dpop.verify(proof, method="GET", urls=urls or (URL,), token=token, now=now)


def refusal(proof: str, *urls: str, **changed: Any) -> str:
    with pytest.raises(Refused) as caught:
        verify(proof, *urls, **changed)
    assert caught.value.code == code_pb2.CODE_UNAUTHENTICATED
    assert caught.value.reason.startswith("the DPoP proof ")
    return caught.value.reason


def test_a_proof_tells_whose_key_it_is_and_when_it_was_made() -> None:
    found = verify(proof())

    assert (found.thumbprint, found.issued_at) == (KEY.thumbprint, NOW)


def test_the_same_id_by_another_key_is_another_proof() -> None:
    other = DpopKey().proof("GET", URL, TOKEN, iat=NOW, jti="one")

    assert verify(proof()).proof_id == verify(proof(iat=NOW - 1)).proof_id
    assert len({verify(one).proof_id for one in (proof(), proof(jti="two"), other)}) == 3


@pytest.mark.parametrize("off", [-60, 0, 60])
def test_a_proof_holds_for_a_minute_on_both_sides(off: int) -> None:
    assert verify(proof(iat=NOW + off))
    assert verify(proof(iat=NOW), now=NOW + off)


def test_half_a_second_more_is_too_much() -> None:
    for off in (-60.5, 60.5):
        assert "last 60 s" in refusal(proof(), now=NOW + off)


@pytest.mark.parametrize("iat", [None, str(NOW), float(NOW), True, [NOW]])
def test_a_time_that_is_no_whole_number_is_none(iat: object) -> None:
    assert "last 60 s" in refusal(proof(iat=iat))


@pytest.mark.parametrize("jti", [None, "", "x" * 257, 7, ["one"]])
def test_an_id_is_a_text_of_some_length(jti: object) -> None:
    assert "jti" in refusal(proof(jti=jti))


def test_the_longest_and_the_shortest_id_are_good() -> None:
    assert verify(proof(jti="x" * 256)).proof_id != verify(proof(jti="x")).proof_id


def test_a_proof_is_for_its_token_and_where_there_is_none_it_needs_none() -> None:
    assert "ath" in refusal(proof(), token="another")
    assert "ath" in refusal(KEY.proof("GET", URL, None, iat=NOW))
    assert verify(KEY.proof("GET", URL, None, iat=NOW), token=None)


def test_a_proof_is_for_its_method() -> None:
    for method in ("POST", "get", None):
        assert "htm" in refusal(proof(htm=method))


@pytest.mark.parametrize(
    ("named", "called"),
    [
        ("https://h/x", "https://H:443/x?query#fragment"),
        ("HTTPS://h:443/x#f", "https://h/x"),
        ("http://h/x", "http://h:80/x"),
        ("https://h", "https://h/"),
        ("https://H/?a=b", "https://h"),
        ("https://h:8443/X", "https://h:8443/X"),
    ],
)
def test_one_address_has_many_spellings(named: str, called: str) -> None:
    assert verify(proof(htu=named), called)
    assert verify(proof(htu=named), "https://another/way/in", called)


@pytest.mark.parametrize(
    ("named", "called"),
    [
        ("http://h/x", "https://h/x"),
        ("https://h:80/x", "http://h/x"),
        ("http://h:443/x", "https://h/x"),
        ("https://h:444/x", "https://h/x"),
        ("https://other/x", "https://h/x"),
        ("https://h/X", "https://h/x"),
        ("https://h/x/", "https://h/x"),
        ("https://h", "https://h/x"),
        ("https://h:port/x", "https://h/x"),
        ("http://[", "https://h/x"),
        ("/x", "https://h/x"),
        ("", "https://h/"),
        (None, "https://h/x"),
        (["https://h/x"], "https://h/x"),
    ],
)
def test_another_address_is_another(named: object, called: str) -> None:
    assert "htu" in refusal(proof(htu=named), called)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "DPOP+JWT"},
        {"jwk": {}},
        {"jwk": ECKey.generate_key("P-256").as_dict(private=False)},
        {"jwk": KEY.key.as_dict(private=True)},
    ],
)
def test_only_a_dpop_proof_by_the_key_in_it_is_one(header: dict[str, Any]) -> None:
    assert "dpop+jwt" in refusal(proof(header=header))


def test_what_was_used_is_remembered_for_as_long_as_it_could_be_used_again() -> None:
    made_ahead = verify(proof(iat=NOW + dpop.WINDOW_SECONDS))

    assert verify(proof(iat=made_ahead.issued_at), now=NOW + 2 * dpop.WINDOW_SECONDS)
    assert dpop.KEPT_SECONDS > 2 * dpop.WINDOW_SECONDS
