"""The member's ledger service, as far as the gateway needs it."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import grpc
from google.protobuf.message import Message

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import (
    ConsentDocument,
    ExplainItem,
    IdentityDocument,
    RecordVersion,
    SealedBatch,
    Verdict,
)
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError

_READ_SECONDS = 5.0
_SUBMIT_SECONDS = 28.0
_SUBMIT_RETRIES = 100.0
_PROVE_SECONDS = 10.0
_AT_ONCE = 500


class Ledger:
    """Carries commands and asks what is committed. Raises MeshError and nothing else."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._retries = RetryBudget()
        # What is sent is sealed already: busy is no reason to give it up before its time is over.
        self._submits = RetryBudget(tokens=_SUBMIT_RETRIES)

    async def submit(
        self, groups: Sequence[ledger_pb2.SealedGroup], seals: Sequence[SealedBatch] = ()
    ) -> list[ledger_pb2.GroupReceipt]:
        """A GroupReceipt for each, in order. UNKNOWN_OUTCOME when the answer was lost."""
        request = ledger_pb2.SubmitRequest(submissions=groups, seals=seals)
        answer = await call(
            self._stub.Submit,
            request,
            deadline_seconds=_SUBMIT_SECONDS,
            retries=self._submits,
            changes_state=self._channel,
        )
        if [len(one.receipts) for one in answer.groups] != [len(one.item.group.commands) for one in groups]:
            raise MeshError(
                code_pb2.CODE_UNKNOWN_OUTCOME,
                "the ledger's answer does not fit; send the same again",
                outcome=code_pb2.OUTCOME_UNKNOWN,
            )
        return list(answer.groups)

    async def identity(self, address: str) -> IdentityDocument | None:
        """The document of an address; None when it is not registered."""
        request = ledger_pb2.GetIdentityRequest(address=address)
        answer = await self._found(self._stub.GetIdentity, request)
        return None if answer is None else answer.identity

    async def identities(self, addresses: Sequence[str]) -> list[IdentityDocument | None]:
        """The documents of at most 500 addresses, in order; None where one is not registered."""
        request = ledger_pb2.GetIdentitiesRequest(addresses=addresses)
        answer = await self._read(self._stub.GetIdentities, request)
        _check_count(answer.identities, addresses)
        return [one.identity if one.HasField("identity") else None for one in answer.identities]

    async def receipt(self, command_id: str, signer: str) -> ledger_pb2.Receipt | None:
        """What became of a command; None when it is not committed as far as this member knows."""
        request = ledger_pb2.GetReceiptRequest(command_id=command_id, signer=signer)
        answer = await self._found(self._stub.GetReceipt, request)
        return None if answer is None else answer.receipt

    async def receipts(self, commands: Sequence[tuple[str, str]]) -> list[ledger_pb2.Receipt | None]:
        """The same for many, named by signer and id, in order."""
        found: list[ledger_pb2.Receipt | None] = []
        for start in range(0, len(commands), _AT_ONCE):
            asked = [
                ledger_pb2.GetReceiptRequest(command_id=command_id, signer=signer)
                for signer, command_id in commands[start : start + _AT_ONCE]
            ]
            request = ledger_pb2.GetReceiptsRequest(commands=asked)
            answer = await self._read(self._stub.GetReceipts, request)
            _check_count(answer.receipts, asked)
            found += [one.receipt if one.HasField("receipt") else None for one in answer.receipts]
        return found

    async def record_versions(self, versions: Sequence[tuple[str, int]]) -> list[RecordVersion | None]:
        """The entries of many versions (record id and version), in order; None where there is none."""
        found: list[RecordVersion | None] = []
        for start in range(0, len(versions), _AT_ONCE):
            asked = [
                ledger_pb2.GetRecordVersionRequest(record_id=record_id, version=version)
                for record_id, version in versions[start : start + _AT_ONCE]
            ]
            request = ledger_pb2.GetRecordVersionsRequest(versions=asked)
            answer = await self._read(self._stub.GetRecordVersions, request)
            found += _records(answer.versions, asked)
        return found

    async def record(self, record_id: str, version: int) -> RecordVersion | None:
        """The entry of a version (0: the latest); None when there is none."""
        request = ledger_pb2.GetRecordVersionRequest(record_id=record_id, version=version)
        answer = await self._found(self._stub.GetRecordVersion, request)
        return None if answer is None else answer.record

    async def latest_versions(self, record_ids: Sequence[str]) -> list[RecordVersion | None]:
        """The entries of the latest versions of many records, in order; None where there is none."""
        found: list[RecordVersion | None] = []
        for start in range(0, len(record_ids), _AT_ONCE):
            asked = record_ids[start : start + _AT_ONCE]
            request = ledger_pb2.GetLatestVersionsRequest(record_ids=asked)
            answer = await self._read(self._stub.GetLatestVersions, request)
            found += _records(answer.versions, asked)
        return found

    async def records(self, request: ledger_pb2.ListRecordsRequest) -> ledger_pb2.ListRecordsResponse:
        """A page of a patient's records, unfiltered: not for anybody else's eyes."""
        return await self._read(self._stub.ListRecords, request)

    async def explain(self, items: Sequence[ExplainItem]) -> list[Verdict]:
        """What would be decided now, for many items, in order."""
        found: list[Verdict] = []
        for start in range(0, len(items), _AT_ONCE):
            asked = items[start : start + _AT_ONCE]
            answer = await self._read(self._stub.Explain, ledger_pb2.ExplainRequest(items=asked))
            _check_count(answer.verdicts, asked)
            found += answer.verdicts
        return found

    async def consents(self, patient: str) -> ConsentDocument:
        """The consents in force."""
        request = ledger_pb2.GetConsentsRequest(patient=patient)
        return (await self._read(self._stub.GetConsents, request)).consents

    async def audit(self, request: ledger_pb2.ListAuditRequest) -> ledger_pb2.ListAuditResponse:
        """A page of a patient's trail."""
        return await self._read(self._stub.ListAudit, request)

    async def broken_glass(self, break_glass_id: str, clinician: str) -> SignedCommand | None:
        """The signed BreakGlass; None when there is none."""
        request = ledger_pb2.GetBrokenGlassRequest(break_glass_id=break_glass_id, clinician=clinician)
        answer = await self._found(self._stub.GetBrokenGlass, request)
        return None if answer is None else answer.command

    async def prove_versions(
        self, places: Sequence[tuple[str, int]], *, own_peer_only: bool = False
    ) -> ledger_pb2.Evidence:
        """What the members' peers sign about at most 100 versions. Raises NOT_FOUND, UNAVAILABLE.

        own_peer_only  of this member's peer alone, where no majority is to be had
        """
        versions = [
            ledger_pb2.GetRecordVersionRequest(record_id=record_id, version=version)
            for record_id, version in places
        ]
        return await self._prove(ledger_pb2.ProveRequest(versions=versions, own_peer_only=own_peer_only))

    async def prove_command(self, command_id: str, signer: str, concerning: str) -> ledger_pb2.Evidence:
        """The same about a command that concerns somebody. Raises NOT_FOUND, UNAVAILABLE."""
        named = ledger_pb2.GetReceiptRequest(command_id=command_id, signer=signer)
        return await self._prove(ledger_pb2.ProveRequest(command=named, concerning=concerning))

    async def _prove(self, request: ledger_pb2.ProveRequest) -> ledger_pb2.Evidence:
        answer = await call(self._stub.Prove, request, deadline_seconds=_PROVE_SECONDS, retries=self._retries)
        return answer.evidence

    async def _read(self, method: Any, request: Message) -> Any:
        return await call(method, request, deadline_seconds=_READ_SECONDS, retries=self._retries)

    async def _found(self, method: Any, request: Message) -> Any:
        try:
            return await self._read(method, request)
        except MeshError as err:
            if err.code == code_pb2.CODE_NOT_FOUND:
                return None
            raise


def _records(
    answered: Sequence[ledger_pb2.GetRecordVersionResponse], asked: Sized
) -> list[RecordVersion | None]:
    _check_count(answered, asked)
    return [one.record if one.HasField("record") else None for one in answered]


def _check_count(answered: Sized, asked: Sized) -> None:
    if len(answered) != len(asked):
        raise MeshError(code_pb2.CODE_INTERNAL, "the ledger's answer does not fit the question")
