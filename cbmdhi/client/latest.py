"""Which version is the latest: a gateway's word. Nothing depends on it: the channel refuses older ones."""

from __future__ import annotations

from collections.abc import Sequence

from cbmdhi.client.connection import Connection
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc

_MOST_AT_ONCE = 100


async def versions(
    connection: Connection, patient: str, record_ids: Sequence[str], *, for_break_glass: bool = False
) -> list[int]:
    """Of each record, in order; 1 where the gateway tells none: the channel answers. Raises MeshError.

    for_break_glass  a clinician is about to break the glass for them
    """
    stub = gateway_pb2_grpc.RecordServiceStub(connection.authenticated)
    found: list[int] = []
    for start in range(0, len(record_ids), _MOST_AT_ONCE):
        asked = record_ids[start : start + _MOST_AT_ONCE]
        request = gateway_pb2.GetLatestVersionsRequest(
            patient=patient, record_ids=asked, for_break_glass=for_break_glass
        )
        answer = await connection.call(stub.GetLatestVersions, request)
        if len(answer.versions) != len(asked):
            raise MeshError(code_pb2.CODE_INTERNAL, "the gateway's answer does not fit what was asked")
        found += [version or 1 for version in answer.versions]
    return found
