"""A program's clock can be set apart on this machine: tests of clocks need it, and none is skipped."""

import subprocess
import time

import pytest

from tests.support.shifted_clock import clock_off_by


@pytest.mark.parametrize(("by", "seconds"), [("+20m", 1200), ("-180s", -180)])
def test_a_program_sees_another_time_than_its_neighbours(by: str, seconds: int) -> None:
    before = time.time()
    told = subprocess.run(
        [*clock_off_by(by), "date", "+%s"], capture_output=True, text=True, check=True, timeout=60
    )
    assert before + seconds - 2 <= int(told.stdout) <= time.time() + seconds + 2
