"""What the FHIR interface can do (http://hl7.org/fhir/R4/capabilitystatement.html), and no more."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

PURPOSE_HEADER = "X-Purpose-Of-Use"
_PUBLISHED = "2026-11-23"
_READS = ("read", "vread")
_WRITES = ("create", "update")
_SECURITY = (
    "A DPoP-bound token (RFC 9449) from /v1/session, with a delegation to the gateway's device. The purpose "
    f"of use of a read goes in the header {PURPOSE_HEADER} (or TREAT); a write is for TREAT. Each read is "
    "decided and recorded on the consortium's channel before it is answered; each write is committed and "
    "replicated."
)
_WRITTEN = (
    "A resource names its patient by address: Patient/cb1… in subject, patient, beneficiary, for, individual "
    "or candidate. Ids are UUIDv7. To be able to send again without a second effect: PUT with your own id "
    "and `If-None-Match: *`; 412 then says that it is there. A transaction of at most 128 entries, each POST "
    "or PUT, is one commit; nothing is searched, so ifMatch and ifNoneMatch are its only conditions."
)


def capability_statement(readable: Set[str], writable: Set[str], base: str) -> dict[str, Any]:
    """The CapabilityStatement of a gateway at `base`, for the resource types that can be read and written."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _PUBLISHED,
        "kind": "instance",
        "implementation": {"description": "Gateway of a member of a CBMDHI consortium", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "documentation": _WRITTEN,
                "security": {"description": _SECURITY},
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
                "resource": [_resource(name, writes=name in writable) for name in sorted(readable)],
            }
        ],
    }


def _resource(resource_type: str, *, writes: bool) -> dict[str, Any]:
    return {
        "type": resource_type,
        "interaction": [{"code": code} for code in (*_READS, *(_WRITES if writes else ()))],
        "versioning": "versioned-update" if writes else "versioned",
        "readHistory": True,
        **({"updateCreate": True, "conditionalCreate": False, "conditionalUpdate": False} if writes else {}),
    }
