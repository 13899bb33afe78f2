"""This client held to tests/vectors: signatures, a login, and each way in which a proof is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keys import COMMAND, LOGIN, Refused, address_of, is_signed
from proof import NotProven, Proof, Trust, check

from cbmdhi.command.v1 import command_pb2
from cbmdhi.ledger.v1 import ledger_pb2

# Without any of these too few endorsements count.
_OF_ENDORSEMENTS = ("peer-root", "peer-validity", "peer-unit", "endorsement-signature", "members")


def check_vectors(folder: Path) -> None:
    """Raise Refused, naming the first that does not hold."""
    commands, sessions, evidence = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("commands", "sessions", "evidence")
    )
    for one in commands["commands"]:
        key, signature, command = (
            bytes.fromhex(one[name]) for name in ("public_key_spki_hex", "signature_hex", "command_hex")
        )
        is_valid = is_signed(key, signature, COMMAND, command)
        if address_of(key) != one["address"] or is_valid != one["valid"]:
            raise Refused(f"commands.json: {one['name']}")
    login = sessions["grpc_login"]
    key, signature = bytes.fromhex(sessions["public_key_spki_hex"]), bytes.fromhex(login["signature_hex"])
    challenge, thumbprint = bytes.fromhex(sessions["challenge_hex"]), login["certificate_x5t_s256"].encode()
    if not is_signed(key, signature, LOGIN, challenge, thumbprint):
        raise Refused("sessions.json: grpc_login")
    for bad in login["bad"]:
        if is_signed(key, bytes.fromhex(bad["signature_hex"]), LOGIN, challenge, thumbprint):
            raise Refused(f"sessions.json: a login {bad['name']}")
    for case in evidence["cases"]:
        failed = _fails(evidence, case)
        wanted = "majority" if case["check"] in _OF_ENDORSEMENTS else case["check"]
        if failed != ("" if case["valid"] else wanted):
            raise Refused(f"evidence.json: {case['name']}: {failed}")
    if not commands["commands"] or not evidence["cases"]:
        raise Refused(f"no vectors in {folder}")
    print("all vectors hold", flush=True)


def _fails(file: dict[str, Any], case: dict[str, Any]) -> str:
    """By which check; empty when all hold."""
    pinned = {**file, "genesis_sha256": file["genesis_sha256_hex"]}

    def signed(name: str) -> list[command_pb2.SignedCommand]:
        return [
            command_pb2.SignedCommand.FromString(bytes.fromhex(raw)) for raw in case.get(name, file[name])
        ]

    evidence = ledger_pb2.Evidence(
        endorsed_state=bytes.fromhex(case["endorsed_state_hex"]),
        commands=signed("commands_hex"),
        registrations=signed("registrations_hex"),
    )
    try:
        proof = Proof(Trust.of(pinned), evidence)
        if case["valid"] or case["asks"] == "command":
            entry, _, author = proof.decided(file["command_id"], file["signer"])
        if case["valid"] or case["asks"] == "version":
            version, by = proof.version(file["record_id"], file["version"], file["patient"])
        if case["valid"]:
            check(
                author_of_the_command=author == by == file["author"],
                audit_entry=entry.SerializeToString() == bytes.fromhex(file["audit_entry_hex"]),
                record=version.SerializeToString() == bytes.fromhex(file["record_hex"]),
            )
    except NotProven as error:
        return error.check
    return ""
