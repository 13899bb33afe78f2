"""How fast the machine itself is at the moment: shared machines swing, and every figure with them."""

from __future__ import annotations

import statistics
import subprocess
import sys

import psutil

# Floats, sorting and a dictionary: arithmetic, memory and branches, as a service has them.
_LOOP = """
import random, time
draw = random.Random(1)
begun = time.process_time()
for _ in range(2):
    numbers = sorted(draw.random() for _ in range(200_000))
    sum({at: number for at, number in enumerate(numbers)}.values())
print(time.process_time() - begun)
"""
_SECONDS = 60.0


def milliseconds() -> float:
    """CPU time of a fixed loop of plain Python, run on every core at the same time: the mean, in ms."""
    started = [
        subprocess.Popen([sys.executable, "-I", "-c", _LOOP], stdout=subprocess.PIPE, text=True)
        for _ in range(psutil.cpu_count() or 1)
    ]
    return 1000 * statistics.fmean(float(process.communicate(timeout=_SECONDS)[0]) for process in started)
