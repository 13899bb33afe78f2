"""Records: read by whom the patient lets, proven and decrypted here alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cbmdhi.client import latest, reviewers
from cbmdhi.client.connection import Connection
from cbmdhi.client.opened import as_resource, content_of
from cbmdhi.client.proven import Proven
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.errors import AccessRefused, MeshError, Misuse, of_detail, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import broken_glass, command, hpke, released
from cbmdhi.protocol.evidence import Checked, ProvenVersion
from cbmdhi.protocol.ids import uuid7

_MOST_READ_TOGETHER = 100

# A version may be written between the question for the latest and the reading, as often in a row.
_OUTRUN = 3

Place = tuple[str, str] | tuple[str, str, int]
"""Patient and record id, for the latest version; with a version, for that one."""


@dataclass(frozen=True)
class Reading:
    """A record as it was read: decrypted here, and proven to be what its author signed and the members' peers
    hold. Without that proof there is none."""

    receipt: Receipt
    proof: ProvenVersion
    content: bytes = field(repr=False)
    released_by: str

    @property
    def record(self) -> RecordVersion:
        """The channel's entry of the version, as proven."""
        return self.proof.record

    @property
    def resource(self) -> dict[str, Any]:
        """The content as a FHIR resource; a decimal is a Decimal, with its digits."""
        return as_resource(self.content)


def _is_superseded(error: AccessRefused) -> bool:
    """Whether it was refused because there is a newer version."""
    return error.code == code_pb2.CODE_FORBIDDEN and error.path in (
        "body.access.version",
        "body.break_glass.version",
    )


class Reads:
    """Read, read in an emergency, list."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wallet = connection.wallet
        self._proven = Proven(connection.wallet)

    async def read(
        self, patient: str, record_id: str, version: int = 0, purpose: str = "", action: str = "read"
    ) -> Reading:
        """Read a record: the latest version, or with the action `history` any one.

        version  0 is the latest, whatever the gateway says: an older one is refused by the channel
        purpose  of use (HL7 v3), on record with the decision: `TREAT`, `ETREAT`, `HPAYMT`, `HOPERAT`,
                 `HRESCH`, `PATRQT`, `PUBHLTH`. Empty: `PATRQT` of one's own records, else `TREAT`

        Raises AccessRefused with the receipt of the refusal, which is on the channel; when there is no
        decision, NotSent or UnknownOutcome with what was signed; MeshError INTEGRITY for what is not proven.

            reading = await clinician.records.read(patient, record_id)
            print(reading.resource["status"], reading.record.version)
            draft = await clinician.records.read(patient, record_id, 1, action="history")
        """
        [body] = self._asked([(patient, record_id, version)], purpose, action)
        return await (self._read(body) if version else self._read_latest(body))

    async def read_many(
        self, places: Sequence[Place], purpose: str = "", action: str = "read"
    ) -> list[Reading | MeshError]:
        """Read many records, as of a chart; in order, each with its own outcome, to be looked at.

        places   as `read` takes them: patient and record id, for the latest, or with a version
        purpose  as for `read`

        Where one was not read stands what `read` would raise: AccessRefused when the channel refused.
        What does not fit into an answer is read alone. Raises MeshError when the call as a whole failed.

            for reading in await clinician.records.read_many([(patient, one) for one in record_ids]):
                if isinstance(reading, MeshError):
                    print(reading)
        """
        named = [place if len(place) == 3 else (*place, 0) for place in places]
        bodies = self._asked(named, purpose, action)
        readings: list[Reading | MeshError] = []
        for start in range(0, len(bodies), _MOST_READ_TOGETHER):
            readings += await self._read_together(bodies[start : start + _MOST_READ_TOGETHER])
        return readings

    async def break_glass(
        self, patient: str, record_id: str, version: int = 0, reason_code: str = ""
    ) -> Reading:
        """Read in an emergency, without consent; the patient is told and a privacy officer reviews it.

        version      0 is the latest; there is no other in an emergency
        reason_code  `unconscious`, `life-threatening` or `public-safety`; sealed to the reviewers alone

        Raises as `read` does; Misuse for another reason.

            reading = await clinician.records.break_glass(patient, record_id, reason_code="unconscious")
        """
        reviewers.check_reason(reason_code)
        body = pb.BreakGlass(patient=patient, record_id=record_id, version=version)
        reviewed_by = await reviewers.of_broken_glass(self._connection)

        def seal() -> pb.SignedCommand:
            del body.sealed_reasons[:]
            command_id = uuid7()
            broken_glass.seal(body, command_id, self._wallet.address, reason_code, reviewed_by)
            return self._signed(body, command_id)

        if version:
            return await self._read_signed(body, seal())
        return await self._of_latest(body, lambda: self._read_signed(body, seal()))

    async def list(self, patient: str = "", *, category: str = "", purpose: str = "") -> list[RecordVersion]:
        """The latest versions of a patient's records (by default the wallet's own) that it may search.

        category  such as `observations`; empty: all
        purpose   as for `read`

            for entry in await clinician.records.list(patient, category="observations"):
                print(entry.record_id, entry.version)
        """
        patient = patient or self._wallet.address
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        request = gateway_pb2.ListRecordsRequest(
            patient=patient, category=category, purpose=self._purpose(patient, purpose), page_size=500
        )
        found: list[RecordVersion] = []
        while True:
            response = await self._connection.call(stub.ListRecords, request)
            found.extend(response.records)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    @cached_property
    def _hpke_private(self) -> hpke.PrivateKey:
        return hpke.PrivateKey(self._wallet.hpke_private)

    def _asked(self, places: Sequence[tuple[str, str, int]], purpose: str, action: str) -> list[pb.Access]:
        if action == "history" and not all(version for *_, version in places):
            raise Misuse("what is read as history is named with its version")
        return [
            pb.Access(
                patient=patient,
                record_id=record_id,
                version=version,
                purpose=self._purpose(patient, purpose),
                action=action,
            )
            for patient, record_id, version in places
        ]

    def _purpose(self, patient: str, said: str) -> str:
        return said or ("PATRQT" if patient == self._wallet.address else "TREAT")

    async def _read_latest(self, body: pb.Access) -> Reading:
        return await self._of_latest(body, lambda: self._read(body))

    async def _of_latest(
        self, body: pb.Access | pb.BreakGlass, read: Callable[[], Awaitable[Reading]]
    ) -> Reading:
        """Read the version that is the latest when it is decided: that it was is the channel's word."""
        attempt = 1
        while True:
            [body.version] = await latest.versions(
                self._connection,
                body.patient,
                [body.record_id],
                for_break_glass=isinstance(body, pb.BreakGlass),
            )
            try:
                return await read()
            except AccessRefused as error:
                if attempt == _OUTRUN or not _is_superseded(error):
                    raise
            attempt += 1

    async def _read(self, body: pb.Access) -> Reading:
        try:
            return await self._read_signed(body, self._signed(body))
        except MeshError as error:
            if isinstance(error, AccessRefused) or error.code != code_pb2.CODE_CONFLICT:
                raise
            # Released, and the answer was lost on the way: a decision releases its key once.
            return await self._read_signed(body, self._signed(body))

    def _signed(self, body: pb.Access | pb.BreakGlass, command_id: str = "") -> pb.SignedCommand:
        channel = self._wallet.consortium.signed_channel
        return self._wallet.sign_command(command.make(body, channel=channel, command_id=command_id or None))

    async def _read_signed(self, body: pb.Access | pb.BreakGlass, signed: pb.SignedCommand) -> Reading:
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        request = gateway_pb2.ReadRequest(
            command=signed, proven=self._proven.knows(body.record_id, body.version)
        )
        try:
            response = await self._connection.call(stub.Read, request)
        except MeshError as error:
            raise to_be_sent(error, [signed]) from error
        return self._decided(body, signed, response, self._given(response))

    async def _read_together(self, bodies: Sequence[pb.Access]) -> list[Reading | MeshError]:
        of_latest = [not body.version for body in bodies]
        await self._name_latest([body for body in bodies if not body.version])
        signed = [self._signed(body) for body in bodies]
        known = [
            index for index, body in enumerate(bodies) if self._proven.knows(body.record_id, body.version)
        ]
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        request = gateway_pb2.ReadManyRequest(commands=signed, proven=known)
        response = await self._connection.call(stub.ReadMany, request)
        if len(response.results) != len(bodies):
            raise MeshError(code_pb2.CODE_INTERNAL, "the gateway's answer does not fit what was asked")
        given = self._given(response)
        readings: list[Reading | MeshError] = []
        for body, sent, result, is_latest in zip(bodies, signed, response.results, of_latest, strict=True):
            try:
                try:
                    readings.append(await self._one_of_many(body, sent, result, given))
                except AccessRefused as error:
                    if not is_latest or not _is_superseded(error):
                        raise
                    readings.append(await self._read_latest(body))
            except MeshError as error:
                readings.append(error)
        return readings

    async def _name_latest(self, bodies: Sequence[pb.Access]) -> None:
        """Put the latest versions into those that name none."""
        of_patient: dict[str, list[pb.Access]] = {}
        for body in bodies:
            of_patient.setdefault(body.patient, []).append(body)
        for patient, asked in of_patient.items():
            found = await latest.versions(self._connection, patient, [body.record_id for body in asked])
            for body, version in zip(asked, found, strict=True):
                body.version = version

    def _given(self, response: gateway_pb2.ReadResponse | gateway_pb2.ReadManyResponse) -> Checked | None:
        return self._proven.checking(response.evidence) if response.HasField("evidence") else None

    async def _one_of_many(
        self,
        body: pb.Access,
        signed: pb.SignedCommand,
        result: gateway_pb2.ReadResult,
        given: Checked | None,
    ) -> Reading:
        if not result.HasField("error"):
            return self._decided(body, signed, result.read, given)
        error = result.error
        if error.code == code_pb2.CODE_TOO_LARGE:
            return await self._read_signed(body, signed)
        if error.code == code_pb2.CODE_CONFLICT:
            return await self._read(body)
        raise of_detail(error)

    def _decided(
        self,
        body: pb.Access | pb.BreakGlass,
        signed: pb.SignedCommand,
        response: gateway_pb2.ReadResponse,
        given: Checked | None,
    ) -> Reading:
        receipt = response.receipt
        if receipt.code != code_pb2.CODE_OK:
            if receipt.outcome == code_pb2.OUTCOME_COMMITTED:
                raise AccessRefused(receipt)
            # Nobody has refused it: it was not decided, or nobody knows.
            why = MeshError(receipt.code, receipt.reason, receipt.path, outcome=receipt.outcome)
            raise to_be_sent(why, [signed])
        return self._opened(body, response, self._proven.version(body.record_id, body.version, given))

    def _opened(
        self, asked: pb.Access | pb.BreakGlass, response: gateway_pb2.ReadResponse, proven: ProvenVersion
    ) -> Reading:
        wallet, opened = self._wallet, response.opened
        reader = released.Recipient(wallet.address, self._hpke_private, response.receipt.command_id)
        content = content_of(proven.record, asked.patient, opened, reader)
        return Reading(response.receipt, proven, content, opened.released_by)
