"""`make lock`: resolves requirements.in into requirements.lock, pinned by hashes; those of the images too.

Keeps the pins that still fit; delete requirements.lock first to take the newest of everything. The
resolver, uv, goes into a folder of its own: it is not part of what the mesh runs on.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = "uv==0.13.9"
# The oldest supported Python decides; --universal makes the lock hold for newer ones and other systems.
PYTHON = "3.11"
# In this order: what runs in an image is of the versions that are tested.
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements.in": (),
    "docs/requirements.in": (),
    "deploy/images/python/requirements.in": ("--constraint", "requirements.lock"),
    "deploy/images/python/sbom.in": ("--constraint", "requirements.lock"),
    "examples/engines/python/requirements.in": ("--constraint", "requirements.lock"),
    "tests/mutants/requirements.in": ("--constraint", "requirements.lock"),
}


def main() -> int:
    """Write requirements.lock; the exit code."""
    folder = ROOT / ".tools" / "lock"
    uv = folder / "bin" / "uv"
    if not uv.exists():
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", UV])
    for source, options in LOCKS.items():
        _run(
            [
                *(str(uv), "pip", "compile", "--quiet", "--universal", "--python-version", PYTHON),
                *("--generate-hashes", "--no-header", "--no-emit-index-url"),
                *("--no-emit-find-links", *options, source, "--output-file", source.replace(".in", ".lock")),
            ]
        )
    return 0


def _run(argv: list[str]) -> None:
    subprocess.run(argv, cwd=ROOT, env=os.environ, check=True)


if __name__ == "__main__":
    sys.exit(main())
