"""Contents: FHIR R4 resources of several types, of the histories that `carebundle` makes, cut to a size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cbmdhi.protocol import categories

_SEEDS = 3
_DIFFERENT = 60
_ID = "00000000-0000-0000-0000-000000000000"
_PATIENT = "cb1" + "0" * 32
# Left out, in this order, of a resource that is too large: what FHIR does not require.
_OPTIONAL = (
    *("text", "meta", "performer", "encounter", "category", "component", "result", "subject", "conclusion"),
    *("referenceRange", "interpretation", "type", "verificationStatus", "issued", "onsetDateTime"),
    *("effectiveDateTime", "period", "participant", "valueQuantity", "serviceProvider"),
)
_TYPES = ("Observation", "Condition", "DiagnosticReport", "Encounter")
_SENTENCES = (
    "Seen in clinic today; the plan was discussed and agreed.",
    "Tolerating the present dose well, no side effects reported.",
    "Home readings brought along; mornings somewhat higher than evenings.",
    "Advised on diet and exercise, leaflet given.",
    "To be repeated before the next visit, fasting.",
    "Result compared with the last three; the trend is stable.",
)


@dataclass(frozen=True)
class Template:
    """A resource around the place of its id: `head + id + tail`; the patient's address is in the tail."""

    category: str
    head: bytes
    tail: bytes

    def content(self, record_id: str, patient: str) -> bytes:
        """The resource with that id about that patient, as JSON."""
        return self.head + record_id.encode() + self.tail.replace(_PATIENT.encode(), patient.encode())


def templates(size: int) -> list[Template]:
    """Several resources of `size` bytes each, in an order that mixes the types. Raises ValueError."""
    by_type: dict[str, list[Template]] = {name: [] for name in _TYPES}
    for resource in _resources():
        found = by_type[resource["resourceType"]]
        if len(found) < _DIFFERENT // len(_TYPES) and (made := _fitted(resource, size)) is not None:
            found.append(made)
    mixed = [found[turn] for turn in range(_DIFFERENT) for found in by_type.values() if turn < len(found)]
    if not mixed:
        raise ValueError(f"no FHIR resource is as small as {size} bytes")
    return mixed


@cache
def _resources() -> list[dict[str, Any]]:
    # Takes a second, which every other command of the CLI would pay too.
    import carebundle

    bundles = (
        json.loads(carebundle.to_json(carebundle.generate_bundle(profile=profile, seed=seed)))
        for seed in range(_SEEDS)
        for profile in carebundle.PROFILES
    )
    found = (entry["resource"] for bundle in bundles for entry in bundle["entry"])
    return [resource for resource in found if resource["resourceType"] in _TYPES]


def _fitted(resource: dict[str, Any], size: int) -> Template | None:
    """The resource cut or filled up to `size` bytes; None when it cannot be that small."""
    kept = {"resourceType": resource["resourceType"], "id": _ID, **resource}
    kept["subject"] = {"reference": f"Patient/{_PATIENT}"}
    room = len(_note(kept, "x")) - 1 - len(_json(kept))
    for name in ("", *_OPTIONAL):
        kept.pop(name, None)
        missing = size - len(_json(kept))
        if missing == 0 or missing > room:
            break
    else:
        return None
    raw = _json(kept) if missing == 0 else _note(kept, _prose(missing - room))
    head, _, tail = raw.partition(_ID.encode())
    return Template(categories.of_resource(resource["resourceType"]), head, tail)


def _note(resource: dict[str, Any], text: str) -> bytes:
    """The resource with a remark where its type has a place for one."""
    match resource["resourceType"]:
        case "Encounter":
            return _json({**resource, "reasonCode": [{"text": text}]})
        case "DiagnosticReport":
            return _json({**resource, "conclusionCode": [{"text": text}]})
        case _:
            return _json({**resource, "note": [{"text": text}]})


def _prose(length: int) -> str:
    """`length` ASCII characters of sentences, without a space at either end (FHIR's `string`)."""
    text = " ".join(_SENTENCES)
    return ((text + " ") * (length // len(text) + 1))[: length - 1] + "."


def _json(resource: dict[str, Any]) -> bytes:
    return json.dumps(resource, separators=(",", ":"), ensure_ascii=True).encode()
