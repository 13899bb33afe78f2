"""The member's own ledger service: the only source of what is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import ROLE_PATIENT
from cbmdhi.command.v1.state_pb2 import (
    IDENTITY_STATUS_ACTIVE,
    IdentityDocument,
    MemberDocument,
    RecordVersion,
)
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import hpke, registration
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError
from services.storage.cache import Cache
from services.storage.domain.batch import MAX_MESSAGE_BYTES
from services.storage.domain.keys import Patient, WriterKeyRef

_CALL_SECONDS = 5.0
_AT_ONCE = 32
_PATIENTS = 20_000
_PATIENT_SECONDS = 60.0
_CONSORTIUM_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Consortium:
    """The members' documents by MSP id, and the policy's number of replicas, the writer's included."""

    members: Mapping[str, MemberDocument]
    min_replicas: int

    @property
    def signing_keys(self) -> dict[str, bytes]:
        """Each member's storage signing key (SPKI), by MSP id."""
        return {msp: member.storage_signing_key for msp, member in self.members.items()}


class Ledger:
    """Calls to the ledger service. Each raises MeshError and nothing else."""

    def __init__(self, channel: grpc.aio.Channel, own_msp: str) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._own_msp = own_msp
        self._retries = RetryBudget()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._patients: Cache[str, Patient] = Cache(_PATIENTS, seconds=_PATIENT_SECONDS)
        self._consortium: Cache[str, Consortium] = Cache(1, seconds=_CONSORTIUM_SECONDS)

    async def identity(self, address: str) -> IdentityDocument:
        """An identity as it is now, its keys checked against its own signed registration: the ledger
        service's word alone would let it put a key of its own in a reader's place.

        Raises MeshError NOT_FOUND, INTEGRITY.
        """
        request = ledger_pb2.GetIdentityRequest(address=address)
        async with self._at_once:
            answer = await call(
                self._stub.GetIdentity, request, deadline_seconds=_CALL_SECONDS, retries=self._retries
            )
        try:
            registration.check_keys(answer.identity, answer.registration)
        except registration.NotCertified as exc:
            raise MeshError(
                code_pb2.CODE_INTEGRITY,
                "the ledger gave an identity that its own registration does not certify",
            ) from exc
        return answer.identity

    async def patient(self, address: str) -> Patient | None:
        """An active patient, as of at most a minute ago; None when there is none of that address."""
        known = self._patients.get(address)
        if known is not None:
            return known
        try:
            identity = await self.identity(address)
        except MeshError as err:
            if err.code == code_pb2.CODE_NOT_FOUND:
                return None
            raise
        if (
            identity.role != ROLE_PATIENT
            or identity.status != IDENTITY_STATUS_ACTIVE
            or len(identity.hpke_public_key) != hpke.PUBLIC_KEY_BYTES
        ):
            return None
        custodians = tuple(custodian.msp for custodian in identity.custodians)
        patient = Patient(identity.address, identity.hpke_public_key, custodians)
        self._patients.put(address, patient)
        return patient

    async def consortium(self) -> Consortium:
        """Members and policy, as of at most half a minute ago."""
        known = self._consortium.get("")
        if known is not None:
            return known
        answer = await call(
            self._stub.ListMembers,
            ledger_pb2.ListMembersRequest(),
            deadline_seconds=_CALL_SECONDS,
            retries=self._retries,
        )
        members = {member.msp: member for member in answer.members}
        consortium = Consortium(members, answer.policy.min_replicas)
        self._consortium.put("", consortium)
        return consortium

    async def writer_key(self, patient: str) -> WriterKeyRef | None:
        """The own member's writer key of the highest epoch that the channel knows for a patient."""
        request = ledger_pb2.GetWriterKeyRequest(writer_msp=self._own_msp, patient=patient)
        try:
            async with self._at_once:
                answer = await call(
                    self._stub.GetWriterKey, request, deadline_seconds=_CALL_SECONDS, retries=self._retries
                )
        except MeshError as err:
            if err.code == code_pb2.CODE_NOT_FOUND:
                return None
            raise
        key = answer.writer_key
        return WriterKeyRef(key.key_id, key.epoch, key.sealed_key_sha256)

    async def record(self, record_id: str, version: int) -> RecordVersion:
        """The ledger's entry of a version. Raises MeshError NOT_FOUND."""
        request = ledger_pb2.GetRecordVersionRequest(record_id=record_id, version=version)
        answer = await call(
            self._stub.GetRecordVersion, request, deadline_seconds=_CALL_SECONDS, retries=self._retries
        )
        return answer.record

    async def proof(self, tx_id: str, wait_seconds: float) -> ledger_pb2.GetProofResponse:
        """The block of a transaction and its neighbours' headers, when the own peer has it in time.

        Raises MeshError NOT_FOUND.
        """
        request = ledger_pb2.GetProofRequest(tx_id=tx_id, wait_ms=int(wait_seconds * 1000))
        return await call(
            self._stub.GetProof,
            request,
            deadline_seconds=wait_seconds + _CALL_SECONDS,
            retries=self._retries,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )

    async def sealed_keys(self, keys: Sequence[str]) -> list[bytes]:
        """Values of the own private data collection, in the order of the keys; empty: absent."""
        answer = await call(
            self._stub.GetSealedKeys,
            ledger_pb2.GetSealedKeysRequest(keys=keys),
            deadline_seconds=_CALL_SECONDS,
            retries=self._retries,
        )
        return list(answer.sealed)

    async def check(self) -> str | None:
        """For readiness: the ledger answers."""
        await call(self._stub.GetHeight, ledger_pb2.GetHeightRequest(), deadline_seconds=_CALL_SECONDS)
        return None


def now_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000
