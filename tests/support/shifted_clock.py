"""Programs whose clock is off: the kernel's is one for all, libfaketime moves what a process sees of it."""

import importlib.util
import subprocess
import time
from functools import cache
from pathlib import Path

# Timeouts and loops go by the monotonic clock; a clock that is wrong leaves that alone.
_KEPT = "FAKETIME_DONT_FAKE_MONOTONIC=1"


def clock_off_by(by: str) -> tuple[str, ...]:
    """What comes before a command line, so that its process sees the time `by` off: "+20m", "-180s"."""
    return ("env", f"LD_PRELOAD={_library()}", f"FAKETIME={by}", _KEPT)


@cache
def _library() -> Path:
    """That of the distribution `libfaketime`; AssertionError when it moves no clock on this machine."""
    found = importlib.util.find_spec("libfaketime")
    assert found is not None, "libfaketime is not installed; run: make build"
    assert found.origin is not None
    library = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    told = subprocess.run(
        ["env", f"LD_PRELOAD={library}", "FAKETIME=+1d", "date", "+%s"],
        capture_output=True,
        text=True,
        check=True,
    )
    # The wheel names no platform and holds the library for Linux on x86-64; elsewhere it is compiled.
    assert int(told.stdout) - time.time() > 80_000, (
        f"{library} moves no clock here ({told.stderr.strip() or 'it says nothing'}). Compile it: "
        ".venv/bin/pip install --force-reinstall --no-deps --no-binary libfaketime libfaketime"
    )
    return library
