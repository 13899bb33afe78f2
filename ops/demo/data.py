"""The patient of the story: a coherent history made by `carebundle`, new for each telling."""

from __future__ import annotations

import json
import secrets
from typing import Any

VISITS = 24


def history(seed: int | None = None) -> dict[str, Any]:
    """A FHIR R4 transaction Bundle of a patient under treatment for six years: over 50 resources."""
    # Takes a second, which every other command of the CLI would pay too.
    import carebundle

    chosen = secrets.randbits(31) if seed is None else seed
    bundle = carebundle.generate_history(profile="hypertension", seed=chosen, visits=VISITS)
    return json.loads(carebundle.to_json(bundle))


def evidence(bundle: dict[str, Any]) -> dict[str, Any]:
    """What the patient shows the reviewers: the Patient resource of that history."""
    patient = next(
        entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient"
    )
    return {"document": "national-identity-card", "patient": patient}
