"""What a token says, and to which key it is bound."""

from __future__ import annotations

import base64
import hashlib

import pytest

from cbmdhi.command.v1 import code_pb2
from services.identity.domain.session import Binding, Subject, binding_of, check_active, check_address, claims
from services.runtime.refusal import Refused


def thumbprint(of: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(of).digest()).rstrip(b"=").decode()


PRINTS = [thumbprint(bytes([number])) for number in range(20)]
PRINT = next(one for one in PRINTS if "-" in one and "_" in one)


def refusal(dpop_jkt: str, certificate: str) -> str:
    with pytest.raises(Refused) as caught:
        binding_of(dpop_jkt, certificate)
    assert caught.value.code == code_pb2.CODE_INVALID
    return caught.value.path


def test_a_token_is_bound_by_the_one_thumbprint_that_is_given() -> None:
    assert binding_of(PRINT, "") == Binding("jkt", PRINT)
    assert binding_of("", PRINT) == Binding("x5t#S256", PRINT)


def test_none_and_both_are_refused() -> None:
    assert refusal("", "") == "dpop_jkt"
    assert refusal(PRINT, PRINTS[0]) == "dpop_jkt"


LAST = "AEIMQUYcgkosw048"
"""What the last of 43 characters may be: four bits and two of padding."""


@pytest.mark.parametrize(
    "text",
    [
        PRINT[:-1],
        PRINT + "A",
        PRINT + "=",
        PRINT[:-1] + "=",
        "~" * 43,
        "é" + PRINT[1:],
        PRINT.replace("-", "+"),
        PRINT.replace("_", "/"),
        PRINT[:-1] + chr(ord(PRINT[-1]) + 1),
    ],
)
def test_a_thumbprint_has_one_spelling(text: str) -> None:
    assert PRINT[-1] in LAST
    assert refusal(text, "") == "dpop_jkt"
    assert refusal("", text) == "certificate_x5t_s256"


def test_only_who_is_active_gets_a_token() -> None:
    check_active(Subject("cb1", "clinician", "MercyMSP", active=True))
    with pytest.raises(Refused, match="not active") as caught:
        check_active(Subject("cb1", "clinician", "MercyMSP", active=False))
    assert caught.value.code == code_pb2.CODE_INACTIVE_SIGNER


def test_a_token_says_who_by_whose_word_for_which_key_and_how_long() -> None:
    subject = Subject("cb1somebody", "clinician", "LakesideMSP", active=True)

    assert claims("MercyMSP", subject, Binding("jkt", PRINT), "an id", 1_000, 300) == {
        "iss": "MercyMSP",
        "sub": "cb1somebody",
        "role": "clinician",
        "msp": "LakesideMSP",
        "cnf": {"jkt": PRINT},
        "iat": 1_000,
        "exp": 1_300,
        "jti": "an id",
    }


@pytest.mark.parametrize("written", ["", "cb1", "somebody", "CB1" + "a" * 32])
def test_what_is_no_address_is_refused_by_its_form(written: str) -> None:
    with pytest.raises(Refused, match="not an address") as caught:
        check_address(written)

    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "address")


def test_an_address_is_taken_whether_registered_or_not() -> None:
    check_address("cb1" + "a" * 32)
