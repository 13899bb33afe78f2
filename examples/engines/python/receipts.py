"""Receipts: what the members' peers hold of a command, whatever the gateway says."""

from __future__ import annotations

import hashlib

from commands import parse
from keys import base32
from proof import NotProven, Proof, Trust
from session import CALL_SECONDS, Engine

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc


# [start:receipt]
def prove(
    engine: Engine, signed: command_pb2.SignedCommand
) -> tuple[state_pb2.AuditEntry, state_pb2.RecordVersion | None]:
    """What the members' peers hold of a command; of a record that was written also which version it is.

    The certificate is enough. Raises NotProven; RpcError with CODE_NOT_FOUND when it is not committed.
    """
    command, body = parse(signed)
    request = gateway_pb2.GetProofRequest(command_id=command.command_id, signer=engine.keys.address)
    stub = gateway_pb2_grpc.RecordServiceStub(engine.gateway)
    evidence = stub.GetProof(request, timeout=CALL_SECONDS).evidence
    proof = Proof(Trust.of(engine.consortium), evidence)
    proof.keys[engine.keys.address] = engine.keys.public_key  # one's own key needs nobody's word
    entry, decided, _ = proof.decided(command.command_id, engine.keys.address)
    if decided.command != signed.command:
        raise NotProven("another command is committed under this id")
    if entry.code != code_pb2.CODE_OK or not body.HasField("put_record"):
        return entry, None
    put = body.put_record
    return entry, proof.version(put.record_id, put.version, put.patient)[0]


def holds(engine: Engine, version: state_pb2.RecordVersion) -> None:
    """Check that the stored block has the CID that is proven: CIDv1, raw, SHA-256, base32."""
    stub = gateway_pb2_grpc.RecordServiceStub(engine.gateway)
    request = gateway_pb2.GetBlobRequest(cid=version.content.cid)
    block = stub.GetBlob(request, timeout=CALL_SECONDS, metadata=engine.metadata()).blob
    if "b" + base32(b"\x01\x55\x12\x20" + hashlib.sha256(block).digest()) != version.content.cid:
        raise NotProven("root-cid")


# [end:receipt]
