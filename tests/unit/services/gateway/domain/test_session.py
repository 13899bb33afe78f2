"""Whom a verified token stands for, and to which key it is bound."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Delegation
from services.gateway.domain.session import CERTIFICATE, DPOP, Session, check_bound, of_claims
from services.runtime.refusal import Refused

NOW = 1_800_000_000
ADDRESS = "cb1" + "a" * 32
CLAIMS = {
    "iss": "MercyMSP",
    "sub": ADDRESS,
    "role": "clinician",
    "msp": "LakesideMSP",
    "jti": "an id",
    "iat": NOW,
    "exp": NOW + 300,
    "cnf": {CERTIFICATE: "print"},
}


def of(now: float = NOW, **changed: Any) -> Session:
    return of_claims({**CLAIMS, **changed}, "MercyMSP", now)


def refusal(now: float = NOW, **changed: Any) -> str:
    with pytest.raises(Refused) as caught:
        of(now, **changed)
    assert caught.value.code == code_pb2.CODE_UNAUTHENTICATED
    return caught.value.reason


def delegation(delegator: str, padding: str = "") -> tuple[dict[str, str], tuple[bytes, bytes]]:
    raw = Delegation(delegator=delegator, purposes=["TREAT"]).SerializeToString(), b"by whom\xff"
    named = zip(("delegation", "signature"), raw, strict=True)
    texts = {name: base64.urlsafe_b64encode(one).decode().rstrip("=") + padding for name, one in named}
    return texts, raw


def test_a_token_stands_for_whom_it_names() -> None:
    assert of() == Session(
        *(ADDRESS, "clinician", "LakesideMSP", "an id", CERTIFICATE, "print", NOW + 300), delegation=None
    )
    bound = of(cnf={DPOP: "thumb"})
    assert (bound.bound_by, bound.bound_to) == (DPOP, "thumb")


def test_another_members_token_is_worth_nothing_here() -> None:
    for issuer in ("LakesideMSP", "mercymsp", None):
        assert "another member" in refusal(iss=issuer)


@pytest.mark.parametrize("name", ["sub", "role", "msp", "jti", "iat", "exp"])
@pytest.mark.parametrize("value", [None, "", 1.5, True, ["x"], {}])
def test_a_token_that_lacks_a_claim_stands_for_nobody(name: str, value: object) -> None:
    assert "lacks a claim" in refusal(**{name: value})  # type: ignore[arg-type]


def test_a_subject_is_an_address() -> None:
    assert "lacks a claim" in refusal(sub="Erika Mustermann")


def test_a_token_is_good_until_it_expires_and_not_long_before_it_was_made() -> None:
    assert of(now=NOW + 299.9)
    assert "expired" in refusal(now=NOW + 300)
    assert of(now=NOW - 5)
    assert "future" in refusal(now=NOW - 5.1)


@pytest.mark.parametrize(
    "cnf",
    [
        None,
        [CERTIFICATE],
        {},
        {CERTIFICATE: ""},
        {CERTIFICATE: 7},
        {"kid": "print"},
        {CERTIFICATE: "print", DPOP: "thumb"},
        {DPOP: "thumb", "kid": "print"},
    ],
)
def test_a_token_is_bound_to_one_key_by_one_way(cnf: object) -> None:
    assert "no key" in refusal(cnf=cnf)


def test_only_the_key_that_it_is_bound_to_shows_it() -> None:
    session = of()

    check_bound(session, CERTIFICATE, "print")
    for shown in ((DPOP, "print"), (CERTIFICATE, "another"), (DPOP, "another")):
        with pytest.raises(Refused, match="another key") as caught:
            check_bound(session, *shown)
        assert caught.value.code == code_pb2.CODE_UNAUTHENTICATED


@pytest.mark.parametrize("padding", ["", "="])
def test_a_token_brings_its_subjects_delegation(padding: str) -> None:
    texts, raw = delegation(ADDRESS, padding)

    assert of(delegation=texts).delegation == raw


def test_another_persons_delegation_is_refused() -> None:
    assert "another's" in refusal(delegation=delegation("cb1" + "b" * 32)[0])


@pytest.mark.parametrize(
    "claim",
    [
        *("text", [], {}, True),
        {"delegation": ""},
        {"signature": ""},
        {**delegation(ADDRESS)[0], "delegation": "_w"},
        {**delegation(ADDRESS)[0], "signature": "é"},
    ],
)
def test_a_delegation_that_cannot_be_read_is_refused(claim: object) -> None:
    assert "cannot be read" in refusal(delegation=claim)
