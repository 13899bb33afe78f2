"""State keys of the chaincode, as whoever checks its answers needs them."""

from __future__ import annotations


def record_key(record_id: str, version: int) -> str:
    """Of a version of a record: its RecordVersion."""
    return f"z/{record_id}/rec/{version:08x}"


def audit_key(command_id: str, signer: str) -> str:
    """Of a command: its AuditEntry."""
    return f"z/{command_id}/aud/{signer}"


def broken_glass_key(break_glass_id: str, clinician: str) -> str:
    """Of a glass that was broken: the signed BreakGlass."""
    return f"z/{break_glass_id}/glass/{clinician}"
