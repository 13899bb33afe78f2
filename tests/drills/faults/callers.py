"""What callers do to a mesh: in an emergency, without being admitted, at one another's expense, too much."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import grpc

from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, from_rpc
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from cbmdhi.waiting import until
from ops.demo import cast
from ops.devnet import Network
from tests.drills.users import People

_STRANGE_EVERY_SECONDS = 0.1
_RIVALS_EACH = 2
# The minute that is under way, and the one that nobody tells.
_STILL_SECONDS = 150.0
_CHART = 100
_CHART_SECONDS = 90.0
# Long enough that the first charts are decided, short enough that none is opened for long.
_HEAD_START_SECONDS = 1.0


async def break_glass(users: People) -> None:
    """Write a record and read it as a clinician in an emergency. Raises MeshError."""
    written = await users.engine.records.put(users.record())
    record = written.record
    reading = await users.clinician.records.break_glass(
        record.patient, record.record_id, record.version, "unconscious"
    )
    print(
        f"glass broken in block {reading.receipt.block}: id {reading.receipt.command_id}, "
        f"clinician {users.clinician.wallet.address}"
    )


async def emergency(network: Network, users: People) -> None:
    """Open a record while the other member is away. Raises MeshError."""
    mercy, lakeside = [await cast.administrator(users.stage, name) for name in ("mercy", "lakeside")]
    async with mercy, lakeside:
        clinician = await cast.member_of_staff(
            users.stage, "mercy", "drill-emergency-clinician", pb.ROLE_CLINICIAN, mercy, lakeside
        )
        async with clinician:
            written = await users.engine.records.put(users.record())
            record = written.record
            await asyncio.to_thread(network.supervisor.signal_program, "lakeside-peer", "STOP")
            await until_still(clinician)
            opened = await clinician.emergency.open(
                record.patient, record.record_id, record.version, "unconscious"
            )
            print(f"opened without a majority: id {opened.command_id}")


async def until_still(client: Client) -> None:
    """Wait until the channel stands still at the client's member. Raises MeshError."""

    async def still() -> bool:
        return (await client.emergency.standstill()).stands_still

    await until(still, "the channel stands still", deadline_seconds=_STILL_SECONDS, every_seconds=1.0)


async def strangers(users: People, seconds: float) -> None:
    """Call with a token that nobody issued. Raises AssertionError when one is answered."""
    stub = gateway_pb2_grpc.RecordServiceStub(users.engine.connection.authenticated)
    turned_away: Counter[str] = Counter()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await stub.ListRecords(
                        gateway_pb2.ListRecordsRequest(patient=users.patient.wallet.address),
                        metadata=(("authorization", "Bearer made.up.token"),),
                        timeout=5.0,
                    )
                except grpc.aio.AioRpcError as error:
                    turned_away[from_rpc(error).code_name] += 1
                else:
                    raise AssertionError("a token that nobody issued was taken")
                await asyncio.sleep(_STRANGE_EVERY_SECONDS)
    print(f"turned away: {dict(turned_away)}")


async def conflicts(users: People, seconds: float) -> None:
    """Replace a consent through both members at once."""
    consent_id = uuid7()
    line = provision(grantee=users.engine.wallet.address, purposes=["TREAT"], actions=["read"])
    became: Counter[str] = Counter()

    async def rival(client: Client) -> None:
        while True:
            try:
                await client.consents.grant(line, consent_id=consent_id)
                became["OK"] += 1
            except MeshError as error:
                became[error.code_name] += 1

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            rivals = (users.patient, users.elsewhere) * _RIVALS_EACH
            await asyncio.gather(*(rival(client) for client in rivals))
    print(f"consents: {dict(became)}")


async def flood(network: Network, users: People, reads: int) -> None:
    """Ask for charts until those that wait to be opened fill their queue."""
    written = await users.engine.records.put(users.record())
    record, patient = written.record, users.patient
    body = pb.Access(
        patient=record.patient, record_id=record.record_id, version=1, purpose="PATRQT", action="read"
    )
    channel = patient.wallet.consortium.signed_channel
    charts = [
        gateway_pb2.ReadManyRequest(
            commands=[patient.wallet.sign_command(command.make(body, channel=channel)) for _ in range(_CHART)]
        )
        for _ in range(max(reads // _CHART, 1))
    ]
    stub = gateway_pb2_grpc.RecordServiceStub(patient.connection.authenticated)
    metadata = await patient.connection.metadata()
    became: Counter[str] = Counter()

    async def chart(request: gateway_pb2.ReadManyRequest) -> None:
        try:
            answer = await stub.ReadMany(request, timeout=_CHART_SECONDS, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            became[from_rpc(error).code_name] += _CHART
            return
        for result in answer.results:
            became["refused" if result.error.code == code_pb2.CODE_RESOURCE_EXHAUSTED else "else"] += 1

    running = asyncio.gather(*(chart(request) for request in charts))
    await asyncio.sleep(_HEAD_START_SECONDS)
    await asyncio.to_thread(network.supervisor.signal_program, "mercy-storage", "STOP")
    await running
    print(f"reads: {dict(became)}")
