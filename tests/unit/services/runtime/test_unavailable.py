"""Whoever does not answer is passed over for a while."""

from __future__ import annotations

from services.runtime.unavailable import Unavailability


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_who_stays_away_is_tried_less_and_less_often_and_at_once_when_it_has_answered() -> None:
    clock = Clock()
    absences = Unavailability(clock)
    waits: list[float] = []
    for _ in range(7):
        absences.failed("lakeside")
        since = clock.seconds
        while "lakeside" in absences:
            clock.seconds += 1
        waits.append(clock.seconds - since)
    assert waits == [2, 4, 8, 16, 30, 30, 30]

    absences.answered("lakeside")
    assert "lakeside" not in absences
    absences.failed("lakeside")
    clock.seconds += 2
    assert "lakeside" not in absences


def test_many_that_asked_at_the_same_time_make_no_longer_absence() -> None:
    clock = Clock()
    absences = Unavailability(clock)
    for _ in range(20):
        absences.failed("lakeside")

    clock.seconds = 2
    assert "lakeside" not in absences


def test_one_that_is_away_keeps_nobody_else_away() -> None:
    absences = Unavailability(Clock())
    absences.failed("lakeside")

    assert "lakeside" in absences
    assert "northgate" not in absences
