"""Who uses the mesh while it is drilled: an engine, a patient, a clinician, registered once and kept."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol.ids import uuid7
from cbmdhi.waiting import until
from ops.demo import cast
from ops.demo.cast import Stage
from ops.devnet import first_administrator

_EVIDENCE = {"document": "fire-drill"}


@dataclass(frozen=True)
class People:
    """Everybody, active on the channel.

    engine     of mercy, writes
    patient    of mercy, whom the records are about; reads them at mercy, and as `elsewhere` at lakeside
    clinician  of lakeside, whom no consent permits anything
    """

    stage: Stage
    engine: Client
    patient: Client
    elsewhere: Client
    clinician: Client

    def record(self) -> NewRecord:
        """A new observation about the patient."""
        record_id = uuid7()
        resource = {"resourceType": "Observation", "id": record_id, "status": "final"}
        coded = {**resource, "code": {"text": "fire drill"}, "valueString": "seen"}
        return NewRecord.of(self.patient.wallet.address, coded, record_id)


async def gather(home: Path, clients: AsyncExitStack) -> People:
    """Everybody; whoever is missing is registered through the mesh. Raises MeshError."""
    stage = Stage.of(home, first_administrator.endpoints(home))

    async def entered(client: Client) -> Client:
        return await clients.enter_async_context(client)

    mercy, lakeside = [await entered(await cast.administrator(stage, name)) for name in ("mercy", "lakeside")]
    engine = await cast.member_of_staff(stage, "mercy", "drill-engine", pb.ROLE_ENGINE, mercy, lakeside)
    clinician = await cast.member_of_staff(
        stage, "lakeside", "drill-clinician", pb.ROLE_CLINICIAN, lakeside, mercy
    )
    patient = await entered(Client(stage.wallet("drill-patient", "mercy", pb.ROLE_PATIENT), "mercy"))
    if await cast.find(patient, patient.wallet.address) is None:
        await patient.registration.enrol()
        await patient.registration.register(_EVIDENCE)
    if not await cast.is_active(patient):
        await asyncio.gather(*(cast.approve(one, patient.wallet.address) for one in (mercy, lakeside)))
        await until(lambda: cast.is_active(patient), "the patient is active")
    return People(
        stage,
        engine=await entered(engine),
        patient=patient,
        elsewhere=await entered(Client(patient.wallet, "lakeside")),
        clinician=await entered(clinician),
    )
