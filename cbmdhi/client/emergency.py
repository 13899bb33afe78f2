"""Emergencies while no majority of the members is to be had: opened at the patient's own hospital, and put on
record when a majority is back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cbmdhi.client import latest, reviewers
from cbmdhi.client.connection import Connection
from cbmdhi.client.opened import as_resource, content_of
from cbmdhi.client.proven import Proven
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import broken_glass, command, hpke, released
from cbmdhi.protocol.evidence import ProvenVersion
from cbmdhi.protocol.proof import ProofError
from cbmdhi.storage.v1.storage_pb2 import GetStandstillResponse, KeptEmergency


@dataclass(frozen=True)
class EmergencyReading:
    """A record that was opened without a majority: what its author signed; that it is committed is the word
    of one member's peer. There is no receipt: it comes on record later, under `command_id`."""

    command_id: str
    proof: ProvenVersion
    content: bytes = field(repr=False)

    @property
    def resource(self) -> dict[str, Any]:
        """The content as a FHIR resource; a decimal is a Decimal, with its digits."""
        return as_resource(self.content)


class Emergency:
    """Asks how the channel stands, opens, lists."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wallet = connection.wallet
        self._proven = Proven(connection.wallet)

    async def standstill(self) -> GetStandstillResponse:
        """Whether the channel stands still at this member, as its storage says."""
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        answer = await self._connection.call(stub.GetStandstill, gateway_pb2.GetStandstillRequest())
        return answer.standstill

    async def open(
        self, patient: str, record_id: str, version: int = 0, reason_code: str = ""
    ) -> EmergencyReading:
        """Open the latest version of a record of an own patient, at the home member of both.

        version      0 is the latest; there is no other in an emergency
        reason_code  `unconscious`, `life-threatening` or `public-safety`; sealed to the reviewers alone

        Raises MeshError CONFLICT when a majority is there: break the glass (`records.break_glass`); Misuse
        for another reason.

            reading = await clinician.emergency.open(patient, record_id, reason_code="unconscious")
        """
        reviewers.check_reason(reason_code)
        if not version:
            [version] = await latest.versions(self._connection, patient, [record_id], for_break_glass=True)
        standstill = await self.standstill()
        if not standstill.stands_still:
            raise MeshError(
                code_pb2.CODE_CONFLICT,
                "the channel goes on, or stopped less than two minutes ago: break the glass, "
                "and if that fails come back",
            )
        glass = pb.BreakGlass(patient=patient, record_id=record_id, version=version)
        wallet, reviewed_by = self._wallet, await reviewers.of_broken_glass(self._connection)
        bound_to = broken_glass.of_standstill(standstill.newest_epoch)
        broken_glass.seal(glass, bound_to, wallet.address, reason_code, reviewed_by)
        body = pb.EmergencyAccess(glass=glass, newest_epoch=standstill.newest_epoch)
        raw = command.make_emergency(body, wallet.address, channel=wallet.consortium.signed_channel)
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        signed = wallet.sign_command(raw)
        request = gateway_pb2.ReadInEmergencyRequest(command=signed)
        try:
            response = await self._connection.call(stub.ReadInEmergency, request)
        except MeshError as error:
            raise to_be_sent(error, [signed]) from error
        return self._opened(glass, command.parse(signed)[0].command_id, response)

    async def kept(self, *, unrecorded_only: bool = False) -> Sequence[KeptEmergency]:
        """What this member opened, newest first (its administrators and privacy officers)."""
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        request = gateway_pb2.ListEmergenciesRequest(unrecorded_only=unrecorded_only)
        return (await self._connection.call(stub.ListEmergencies, request)).emergencies

    def _opened(
        self, glass: pb.BreakGlass, command_id: str, response: gateway_pb2.ReadInEmergencyResponse
    ) -> EmergencyReading:
        wallet = self._wallet
        checked = self._proven.checking(response.evidence)
        checked.of_member = wallet.member
        try:
            proven = checked.version(glass.record_id, glass.version)
        except ProofError as error:
            raise MeshError(
                code_pb2.CODE_INTEGRITY, f"what was opened is not proven, so it is not shown: {error}"
            ) from error
        reader = released.Recipient(wallet.address, hpke.PrivateKey(wallet.hpke_private), command_id)
        content = content_of(proven.record, glass.patient, response.opened, reader)
        return EmergencyReading(command_id, proven, content)
