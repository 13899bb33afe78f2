"""The schema that is kept beside this module, as a checker. See schema/README.md."""

from __future__ import annotations

import gzip
from importlib import resources

import orjson

from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.fhir_schema import ResourceSchemas

_FOLDER = resources.files("services.gateway") / "schema"


def load_checker() -> tuple[ResourceChecker, ResourceSchemas]:
    """A checker of FHIR R4 4.0.1, and the schemas it works by (about 60 ms)."""
    schema = orjson.loads(gzip.decompress((_FOLDER / "fhir-r4-4.0.1.schema.json.gz").read_bytes()))
    cardinality = orjson.loads((_FOLDER / "fhir-r4-4.0.1.cardinality.json").read_bytes())
    schemas = ResourceSchemas(schema, cardinality)
    return ResourceChecker(schemas), schemas
