"""What was measured lies in `bench/results/<row>.json`: raw values, and on what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.environment import ROOT, environment

RESULTS = ROOT / "bench" / "results"


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
