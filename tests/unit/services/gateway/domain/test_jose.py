"""What counts as signed JSON: one form, one algorithm, one kind of key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from services.gateway.domain import jose
from tests.support.fakes.token_service import b64

KEY = ECKey.generate_key("P-256")
PUBLIC = KEY.as_dict(private=False)


def signed(payload: bytes, header: dict[str, Any] | None = None) -> str:
    protected = {"alg": "ES256", **(header or {})}
    return jws.serialize_compact(protected, payload, KEY, algorithms=["ES256"])


def beginning(header: bytes) -> str:
    return f"{b64(header)}.e30.AA"


def test_an_object_that_is_signed_is_read_as_it_was_signed() -> None:
    compact = signed(b'{"sub": "somebody"}', {"typ": "JWT"})

    assert jose.header(compact) == {"alg": "ES256", "typ": "JWT"}
    assert jose.payload(compact, KEY) == {"sub": "somebody"}


def test_whatever_the_length_of_a_header_its_base64_is_read() -> None:
    for length in range(8):
        assert jose.header(beginning(json.dumps({"a": "~" * length}).encode())) == {"a": "~" * length}


def test_the_longest_text_that_is_read_is_of_eight_kibibytes() -> None:
    text = beginning(b"{}")
    longest = text + "A" * (8 * 1024 - len(text))

    assert jose.header(longest) == {}
    with pytest.raises(jose.Malformed, match="compact"):
        jose.header(longest + "A")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b64(b"{}"), "compact"),
        (f"{b64(b'{}')}.e30", "compact"),
        (f"{beginning(b'{}')}.", "compact"),
        (f"{beginning(b'{}')}é", "compact"),
        ("e30~~~~.e30.AA", "base64url"),
        ("e.e30.AA", "base64url"),
        (beginning(b"{"), "not JSON"),
        (beginning(b""), "not JSON"),
        (beginning(b"[]"), "JSON object"),
        (beginning(b'{"crit": null}'), "extension"),
    ],
)
def test_what_is_no_header_is_refused_for_what_it_is(text: str, reason: str) -> None:
    for read in (jose.header, lambda text: jose.payload(text, KEY)):
        with pytest.raises(jose.Malformed, match=reason):
            read(text)


def test_the_alphabet_is_the_one_for_urls() -> None:
    raw = '{"a":"ÿÿ?>~ÿ>"}'.encode()
    assert set("-_") <= set(b64(raw))

    assert jose.header(beginning(raw)) == json.loads(raw)


def test_a_signature_holds_for_its_key_its_algorithm_and_its_payload_alone() -> None:
    compact = signed(b"{}")
    head, _, signature = compact.split(".")
    other = ECKey.generate_key("P-256")
    p384 = ECKey.generate_key("P-384")
    es384 = jws.serialize_compact({"alg": "ES384"}, b"{}", p384, algorithms=["ES384"])

    assert jose.payload(compact, KEY) == {}
    for text, key in (
        (compact, other),
        (f"{head}.{b64(b'{ }')}.{signature}", KEY),
        (f"{b64(b'{}')}.e30.{signature}", KEY),
        (es384, p384),
    ):
        with pytest.raises(jose.Malformed, match="does not fit"):
            jose.payload(text, key)
    with pytest.raises(jose.Malformed, match="JSON object"):
        jose.payload(signed(b"[]"), KEY)
    with pytest.raises(jose.Malformed, match="not JSON"):
        jose.payload(signed(b"text"), KEY)


def test_a_public_key_of_p256_is_taken_and_what_else_stands_beside_it_is_not() -> None:
    key = jose.public_key({**PUBLIC, "kid": "a name", "use": "enc"})

    assert key.thumbprint() == KEY.thumbprint()
    assert key.as_dict(private=False).keys() - {"kid"} == {"kty", "crv", "x", "y"}


@pytest.mark.parametrize(
    "jwk",
    [
        KEY.as_dict(private=True),
        ECKey.generate_key("P-384").as_dict(private=False),
        RSAKey.generate_key(2048).as_dict(private=False),
        {**PUBLIC, "kty": "OKP"},
        {**PUBLIC, "crv": "P-384"},
        {name: PUBLIC[name] for name in PUBLIC if name != "kty"},
        {name: PUBLIC[name] for name in PUBLIC if name != "crv"},
        {name: PUBLIC[name] for name in PUBLIC if name != "x"},
        {name: PUBLIC[name] for name in PUBLIC if name != "y"},
        {**PUBLIC, "y": PUBLIC["x"]},
        {},
        [],
        None,
        "a key",
    ],
)
def test_any_other_key_is_refused(jwk: object) -> None:
    with pytest.raises(jose.Malformed, match=r"JSON Web Key|P-256"):
        jose.public_key(jwk)
