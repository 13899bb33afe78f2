"""A token bucket: what is there at once, what comes back, and what is owed."""

from services.runtime.token_bucket import TokenBucket


def test_as_many_as_it_holds_are_there_at_once_and_the_next_one_after_its_time() -> None:
    bucket = TokenBucket(3, 10.0)
    for _ in range(3):
        assert bucket.wait_seconds(100.0) == 0
        bucket.spend(100.0)
    assert round(bucket.wait_seconds(100.0), 6) == 0.1
    assert bucket.wait_seconds(100.1001) == 0


def test_what_was_spent_beyond_it_is_owed() -> None:
    bucket = TokenBucket(2, 10.0)
    for _ in range(7):
        bucket.spend(100.0)
    assert round(bucket.wait_seconds(100.0), 6) == 0.6
    bucket.spend(100.0, 3)
    assert round(bucket.wait_seconds(100.0), 6) == 0.9


def test_it_never_holds_more_than_its_burst_and_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(2, 10.0)
    bucket.spend(100.0)
    bucket.spend(10_000.0)
    bucket.spend(10_000.0)
    assert bucket.wait_seconds(10_000.0) > 0
    assert bucket.wait_seconds(9_000.0) > 0


def test_nobody_waits_for_longer_than_may_be_owed() -> None:
    bucket = TokenBucket(2, 10.0, most_owed_seconds=3.0)
    for _ in range(26_507):
        bucket.spend(100.0)
    assert round(bucket.wait_seconds(100.0), 6) == 3.0
    assert bucket.wait_seconds(103.0001) == 0
