"""What was measured lies in `bench/results/<row>.json`: raw values, and on what."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.environment import ROOT, environment

RESULTS = ROOT / "bench" / "results"
_DRAWINGS = ROOT / ".tools" / "bench" / "runs"


def write(folder: Path, row: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write a row's runs with their environment; what was written."""
    document = {"row": row, **environment(), "runs": list(runs)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{row}.json").write_text(json.dumps(document, indent=2) + "\n")
    return document


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """All rows that were ever measured, by name."""
    found = (json.loads(file.read_text()) for file in sorted(folder.glob("*.json")))
    return {document["row"]: document for document in found if "row" in document}


def drawings(row: str, run: int) -> Path:
    """An empty folder for the plots of one run of a row: only one run's are kept in the end."""
    folder = _DRAWINGS / row / str(run)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def keep_drawings(row: str, run: int, folder: Path) -> None:
    """Put that run's plots into `folder`, in place of all that an earlier measurement drew for the row."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.png", "*.csv"):
        for old in folder.glob(f"{row}-{pattern}"):
            old.unlink()
    for file in (_DRAWINGS / row / str(run)).iterdir():
        shutil.copy(file, folder)
