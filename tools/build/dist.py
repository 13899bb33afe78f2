"""`make dist`: what is given to others, in dist/: the source distribution and the wheel of each.

Each wheel is built from its source distribution, so that this one is whole. The versions of what builds are
those of requirements.lock; times inside are the commit's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Name, and folder of its pyproject.toml. The others (services, ops, bench) are not given away.
DISTRIBUTIONS = {"cbmdhi": ".", "fabric-gateway-async": "fabric_gateway"}


def build(root: Path, folder: Path) -> list[Path]:
    """Everything of the checkout at `root`, anew, into `folder`.

    Raises:
        subprocess.CalledProcessError: it cannot be built; what builds it has said why
    """
    shutil.rmtree(folder, ignore_errors=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _committed_at(root)}
    for project in DISTRIBUTIONS.values():
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, root / project],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return sorted(folder.iterdir())


def _committed_at(root: Path) -> str:
    told = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


def main() -> int:
    """Build, and name what was built; the exit code."""
    try:
        made = build(ROOT, ROOT / "dist")
    except subprocess.CalledProcessError:
        return 1
    for path in made:
        print(f"  {path.relative_to(ROOT)}  {path.stat().st_size / 1024:,.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
