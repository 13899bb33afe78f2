"""A challenge is for one address, for a minute, and for one login."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from services.identity.domain.challenge import Challenges
from services.runtime.refusal import Refused

NOW = 1_800_000_000_000
KEY = b"k" * 32
SOMEBODY = "cb1" + "a" * 32


def nonce(number: int) -> bytes:
    return number.to_bytes(10, "big")


def refusal(challenges: Challenges, value: bytes, address: str = SOMEBODY, now_ms: int = NOW) -> str:
    with pytest.raises(Refused) as caught:
        challenges.check(value, address, now_ms)
    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_UNAUTHENTICATED, "challenge")
    assert caught.value.reason.endswith("ask for a new one and sign that")
    return caught.value.reason


def test_a_challenge_holds_its_end_and_its_nonce_and_no_two_are_alike() -> None:
    given = Challenges(KEY, 1).give(SOMEBODY, nonce(7), NOW)

    assert given.expires_at_ms == NOW + 60_000
    assert given.value[:16] == (NOW + 60_000).to_bytes(6, "big") + nonce(7)
    assert len(given.value) == 32
    assert given.value != Challenges(KEY, 1).give(SOMEBODY, nonce(8), NOW).value


@pytest.mark.parametrize("wrong", [b"", b"n" * 9, b"n" * 11])
def test_a_nonce_has_ten_bytes(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        Challenges(KEY, 1).give(SOMEBODY, wrong, NOW)


def test_another_replica_with_the_same_key_takes_it_and_one_with_another_does_not() -> None:
    value = Challenges(KEY, 1).give(SOMEBODY, nonce(1), NOW).value

    Challenges(KEY, 1).check(value, SOMEBODY, NOW)
    assert "not given" in refusal(Challenges(b"o" * 32, 1), value)


def test_not_a_bit_of_it_can_be_changed() -> None:
    challenges = Challenges(KEY, 1)
    value = challenges.give(SOMEBODY, nonce(1), NOW).value

    for place in range(32):
        changed = bytes(byte ^ (place == at) for at, byte in enumerate(value))
        assert "not given" in refusal(challenges, changed)
    for other in (value[:-1], value + b"\x00", value[:16], b""):
        assert "not given" in refusal(challenges, other)
    assert "not given" in refusal(challenges, value, "cb1" + "b" * 32)


def test_it_is_good_to_the_last_millisecond_of_its_minute() -> None:
    challenges = Challenges(KEY, 1)
    value = challenges.give(SOMEBODY, nonce(1), NOW).value

    challenges.check(value, SOMEBODY, NOW + 59_999)
    assert "60 seconds" in refusal(challenges, value, now_ms=NOW + 60_000)


def test_looking_does_not_use_it_up_and_a_login_does() -> None:
    challenges = Challenges(KEY, 1)
    value = challenges.give(SOMEBODY, nonce(1), NOW).value
    challenges.check(value, SOMEBODY, NOW)
    challenges.spend(value, SOMEBODY, NOW)

    assert "used before" in refusal(challenges, value)
    with pytest.raises(Refused, match="used before"):
        challenges.spend(value, SOMEBODY, NOW)


def test_a_used_one_is_remembered_until_it_would_be_past_and_then_makes_room() -> None:
    challenges = Challenges(KEY, 2)

    def spend(number: int, now_ms: int) -> bytes:
        value = challenges.give(SOMEBODY, nonce(number), now_ms).value
        challenges.spend(value, SOMEBODY, now_ms)
        return value

    first = spend(1, NOW)
    spend(2, NOW + 20_000)
    for now_ms, wait in ((NOW + 20_000, 40_000), (NOW + 59_999, 1)):
        with pytest.raises(Refused, match="too many logins") as caught:
            spend(3, now_ms)
        assert caught.value.code == code_pb2.CODE_RESOURCE_EXHAUSTED
        assert caught.value.retry_after_ms == wait
    assert "used before" in refusal(challenges, first, now_ms=NOW + 59_999)

    spend(4, NOW + 60_000)
    with pytest.raises(Refused, match="too many logins"):
        spend(5, NOW + 60_000)
    spend(6, NOW + 80_000)
