"""When to try again: delays with jitter, and a budget so that a dependency in trouble is not buried."""

import random


class RetryBudget:
    """A token bucket: a retry takes one token, a success gives a tenth back. Empty: no retries.

    One for each dependency and process.
    """

    def __init__(self, tokens: float = 10.0, given_back: float = 0.1) -> None:
        self._most = tokens
        self._tokens = tokens
        self._given_back = given_back

    def take(self) -> bool:
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def succeeded(self) -> None:
        self._tokens = min(self._most, self._tokens + self._given_back)


def backoff_seconds(attempt: int, *, first: float, longest: float) -> float:
    """Half to the whole of `first` doubled `attempt` times, at most `longest`. `attempt` counts from 0."""
    ceiling = min(longest, first * 2 ** min(attempt, 30))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
