"""Errors as FHIR says them: OperationOutcome (http://hl7.org/fhir/R4/operationoutcome.html)."""

from __future__ import annotations

from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from services.runtime.errors import MeshError, code_name, outcome_name

OUTCOME_HEADER = "Cbmdhi-Outcome"
"""What is certain about a write whatever its status: COMMITTED, NOT_DONE or UNKNOWN."""
OUTCOME_SYSTEM = "urn:cbmdhi:outcome"
"""The same in `issue.details.coding`, where an answer tells of several writes."""

_UNKNOWN = code_pb2.OUTCOME_UNKNOWN
# Code -> http://hl7.org/fhir/issue-type
_ISSUE_TYPES: dict[int, str] = {
    code_pb2.CODE_BAD_SIGNATURE: "security",
    code_pb2.CODE_EXPIRED: "expired",
    code_pb2.CODE_UNKNOWN_SIGNER: "unknown",
    code_pb2.CODE_INACTIVE_SIGNER: "forbidden",
    code_pb2.CODE_FORBIDDEN: "forbidden",
    code_pb2.CODE_CONFLICT: "conflict",
    code_pb2.CODE_INVALID: "invalid",
    code_pb2.CODE_WRONG_CHANNEL: "invalid",
    code_pb2.CODE_NOT_FOUND: "not-found",
    code_pb2.CODE_TOO_LARGE: "too-long",
    code_pb2.CODE_UNAUTHENTICATED: "login",
    code_pb2.CODE_RESOURCE_EXHAUSTED: "throttled",
    code_pb2.CODE_UNAVAILABLE: "transient",
    code_pb2.CODE_DEADLINE_EXCEEDED: "timeout",
    code_pb2.CODE_UNKNOWN_OUTCOME: "incomplete",
    code_pb2.CODE_INTERNAL: "exception",
}


def of_receipt(receipt: Receipt) -> dict[str, Any]:
    """The resource of a write that is committed: what `cbmdhi verify TRANSACTION COMMAND` checks."""
    issue = {
        "severity": "information",
        "code": "informational",
        "details": {"text": code_name(receipt.code)},
        "diagnostics": f"transaction {receipt.tx_id} command {receipt.command_id} block {receipt.block}",
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def of_error(err: MeshError) -> dict[str, Any]:
    """The resource: the issue's type, the mesh's code, a sentence, what is certain. No ids."""
    issue: dict[str, Any] = {
        "severity": "error",
        "code": _ISSUE_TYPES.get(err.code, "processing"),
        "details": {
            "coding": [{"system": OUTCOME_SYSTEM, "code": outcome_name(err.outcome or _UNKNOWN)}],
            "text": code_name(err.code),
        },
        "diagnostics": err.reason or code_name(err.code),
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}
