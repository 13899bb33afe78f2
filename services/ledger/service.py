"""The gRPC surface of the ledger service: who may call, and which part answers."""

from collections.abc import Sequence
from typing import Any

from cbmdhi.command.v1 import state_pb2
from cbmdhi.ledger.v1 import ledger_pb2 as pb
from cbmdhi.ledger.v1 import ledger_pb2_grpc
from services.ledger.channel.evidence import EvidenceCollector
from services.ledger.channel.peer_state import PeerState
from services.ledger.domain import requests
from services.ledger.domain.receipts import Command, of_audit_entry
from services.ledger.health import Health
from services.ledger.projection.block_feed import BlockFeed
from services.ledger.projection.block_numbers import BlockNumbers
from services.ledger.projection.lists import Lists
from services.ledger.projection.projection import Projection
from services.ledger.submission.submitter import Submitter
from services.runtime.callers import require_peer
from services.runtime.deadline import remaining_seconds
from services.runtime.errors import MeshError, nothing_done

_OF_THE_MEMBER = frozenset({"gateway", "identity", "storage", "notify", "ledger"})
_SUBMITTING = frozenset({"gateway", "identity", "storage"})
_LISTING = frozenset({"gateway", "identity"})
_GATEWAY = frozenset({"gateway"})
_STORAGE = frozenset({"storage"})
_NOTIFY = frozenset({"notify"})
_READING_RECORDS = frozenset({"gateway", "storage"})

_LONGEST_SUBMIT_SECONDS = 28.0
_ANSWER_SECONDS = 0.3
"""Seconds of the caller's deadline that are reserved for the answer."""

_CATCH_UP_SECONDS = 2.0
_KEYS_CATCH_UP_SECONDS = 0.5
"""Storage needs no newer lists: a key that they do not know yet is only submitted once more."""


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """LedgerService."""

    def __init__(
        self,
        *,
        channel_name: str,
        submitter: Submitter,
        state: PeerState,
        projection: Projection,
        lists: Lists,
        block_numbers: BlockNumbers,
        evidence: EvidenceCollector,
        block_feed: BlockFeed,
        health: Health,
    ) -> None:
        self._channel_name = channel_name
        self._submitter = submitter
        self._state = state
        self._projection = projection
        self._lists = lists
        self._block_numbers = block_numbers
        self._evidence = evidence
        self._block_feed = block_feed
        self._health = health
        self._last_block = -1

    async def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:
        with nothing_done():
            peer = require_peer(context, services=_SUBMITTING)
            requests.check_submitter(request, peer.service)
        left = remaining_seconds()
        wait_seconds = _LONGEST_SUBMIT_SECONDS if left is None else min(left, _LONGEST_SUBMIT_SECONDS)
        # By connection: each replica of a gateway has its own.
        groups = await self._submitter.submit(
            *(request.submissions, max(0.0, wait_seconds - _ANSWER_SECONDS), context.peer(), request.seals)
        )
        self._last_block = max(
            self._last_block, *(receipt.block for group in groups for receipt in group.receipts)
        )
        return pb.SubmitResponse(groups=groups)

    async def GetIdentity(self, request: pb.GetIdentityRequest, context: Any) -> pb.GetIdentityResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        requests.check_given(request.address, "address")
        found = await self._state.identity(request.address)
        if found is None:
            raise MeshError.not_found("no identity is registered under this address", "address")
        identity, registration = found
        return pb.GetIdentityResponse(identity=identity, registration=registration)

    async def GetIdentities(self, request: pb.GetIdentitiesRequest, context: Any) -> pb.GetIdentitiesResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        requests.check_count(len(request.addresses), requests.MAX_LOOKED_UP, "addresses")
        answer = pb.GetIdentitiesResponse()
        for found in await self._state.identities(request.addresses):
            identity, registration = found or (None, None)
            answer.identities.add(identity=identity, registration=registration)
        return answer

    async def ListIdentities(
        self, request: pb.ListIdentitiesRequest, context: Any
    ) -> pb.ListIdentitiesResponse:
        require_peer(context, services=_LISTING)
        await self._be_current()
        return await self._lists.identities(request)

    async def GetConsents(self, request: pb.GetConsentsRequest, context: Any) -> pb.GetConsentsResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_given(request.patient, "patient")
        return pb.GetConsentsResponse(consents=await self._state.consents(request.patient))

    async def GetRecordVersion(
        self, request: pb.GetRecordVersionRequest, context: Any
    ) -> pb.GetRecordVersionResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_given(request.record_id, "record_id")
        if request.version:
            record = await self._state.record(request.record_id, request.version)
        else:
            await self._be_current()
            [record] = await self._lists.latest_records([request.record_id])
        if record is None:
            raise MeshError.not_found("the record has no such version", "record_id")
        return pb.GetRecordVersionResponse(record=record)

    async def GetRecordVersions(
        self, request: pb.GetRecordVersionsRequest, context: Any
    ) -> pb.GetRecordVersionsResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_count(len(request.versions), requests.MAX_LOOKED_UP, "versions")
        for place, one in enumerate(request.versions):
            requests.check_given(one.record_id, f"versions[{place}].record_id")
        answer = pb.GetRecordVersionsResponse()
        for record in await self._state.records([(one.record_id, one.version) for one in request.versions]):
            answer.versions.add(record=record)
        return answer

    async def GetLatestVersions(
        self, request: pb.GetLatestVersionsRequest, context: Any
    ) -> pb.GetLatestVersionsResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_count(len(request.record_ids), requests.MAX_LOOKED_UP, "record_ids")
        for place, record_id in enumerate(request.record_ids):
            requests.check_given(record_id, f"record_ids[{place}]")
        await self._be_current()
        answer = pb.GetLatestVersionsResponse()
        for record in await self._lists.latest_records(request.record_ids):
            answer.versions.add(record=record)
        return answer

    async def ListRecords(self, request: pb.ListRecordsRequest, context: Any) -> pb.ListRecordsResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_given(request.patient, "patient")
        await self._be_current()
        return await self._lists.records(request)

    async def ListAudit(self, request: pb.ListAuditRequest, context: Any) -> pb.ListAuditResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_given(request.patient, "patient")
        await self._be_current()
        return await self._lists.audit(request)

    async def ListCommitted(self, request: pb.ListCommittedRequest, context: Any) -> pb.ListCommittedResponse:
        require_peer(context, services=_NOTIFY)
        return await self._block_feed.page(request.from_block)

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: Any) -> pb.GetReceiptResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_given(request.command_id, "command_id")
        requests.check_given(request.signer, "signer")
        command = request.command_id, request.signer
        receipt = (await self._receipts([command])).get(command)
        if receipt is None:
            raise MeshError.not_found("no such command is committed on this member's peer", "command_id")
        return pb.GetReceiptResponse(receipt=receipt)

    async def GetReceipts(self, request: pb.GetReceiptsRequest, context: Any) -> pb.GetReceiptsResponse:
        require_peer(context, services=_READING_RECORDS)
        requests.check_count(len(request.commands), requests.MAX_LOOKED_UP, "commands")
        for place, one in enumerate(request.commands):
            requests.check_given(one.command_id, f"commands[{place}].command_id")
            requests.check_given(one.signer, f"commands[{place}].signer")
        commands = [(one.command_id, one.signer) for one in request.commands]
        found = await self._receipts(commands)
        answer = pb.GetReceiptsResponse()
        for command in commands:
            answer.receipts.add(receipt=found.get(command))
        return answer

    async def GetBrokenGlass(
        self, request: pb.GetBrokenGlassRequest, context: Any
    ) -> pb.GetBrokenGlassResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_given(request.break_glass_id, "break_glass_id")
        requests.check_given(request.clinician, "clinician")
        command = await self._state.broken_glass(request.break_glass_id, request.clinician)
        if command is None:
            raise MeshError.not_found("this clinician has broken no glass under this id", "break_glass_id")
        return pb.GetBrokenGlassResponse(command=command)

    async def GetCommittedContents(
        self, request: pb.GetCommittedContentsRequest, context: Any
    ) -> pb.GetCommittedContentsResponse:
        require_peer(context, services=_STORAGE)
        requests.check_count(len(request.batches), requests.MAX_BATCHES, "batches")
        commands = sum(len(batch.commands) for batch in request.batches)
        requests.check_count(commands, requests.MAX_BATCH_COMMANDS, "commands")
        return await self._lists.committed_contents(request.batches)

    async def Prove(self, request: pb.ProveRequest, context: Any) -> pb.ProveResponse:
        require_peer(context, services=_GATEWAY)
        requests.check_count(len(request.versions), requests.MAX_PROVEN, "versions")
        if request.versions:
            places = [(one.record_id, one.version) for one in request.versions]
            evidence = await self._evidence.of_versions(places, own_peer_only=request.own_peer_only)
        else:
            named = request.command
            requests.check_given(named.command_id, "command.command_id")
            requests.check_given(request.concerning, "concerning")
            await self._catch_up(_CATCH_UP_SECONDS)
            evidence = await self._evidence.of_command(named.command_id, named.signer, request.concerning)
        return pb.ProveResponse(evidence=evidence)

    async def GetMember(self, request: pb.GetMemberRequest, context: Any) -> pb.GetMemberResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        requests.check_given(request.msp, "msp")
        member = await self._state.member(request.msp)
        if member is None:
            raise MeshError.not_found("no member has this MSP id", "msp")
        return pb.GetMemberResponse(member=member)

    async def ListMembers(self, request: pb.ListMembersRequest, context: Any) -> pb.ListMembersResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        members, policy = await self._state.members_and_policy()
        return pb.ListMembersResponse(members=members, policy=policy, channel=self._channel_name)

    async def GetWriterKey(self, request: pb.GetWriterKeyRequest, context: Any) -> pb.GetWriterKeyResponse:
        require_peer(context, services=_STORAGE)
        requests.check_given(request.writer_msp, "writer_msp")
        requests.check_given(request.patient, "patient")
        found = await self._writer_keys(request.writer_msp, [request.patient])
        if not found:
            raise MeshError.not_found("this member has no writer key for the patient yet", "patient")
        return pb.GetWriterKeyResponse(writer_key=found[request.patient])

    async def GetWriterKeys(self, request: pb.GetWriterKeysRequest, context: Any) -> pb.GetWriterKeysResponse:
        require_peer(context, services=_STORAGE)
        requests.check_given(request.writer_msp, "writer_msp")
        requests.check_count(len(request.patients), requests.MAX_LOOKED_UP, "patients")
        found = await self._writer_keys(request.writer_msp, request.patients)
        answer = pb.GetWriterKeysResponse()
        for patient in request.patients:
            answer.writer_keys.add(writer_key=found.get(patient))
        return answer

    async def GetSealedKeys(self, request: pb.GetSealedKeysRequest, context: Any) -> pb.GetSealedKeysResponse:
        require_peer(context, services=_STORAGE)
        requests.check_count(len(request.keys), requests.MAX_SEALED_KEYS, "keys")
        return pb.GetSealedKeysResponse(sealed=await self._state.sealed_keys(request.keys))

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        require_peer(context, services=_READING_RECORDS)
        requests.check_count(len(request.items), requests.MAX_EXPLAINED, "items")
        return pb.ExplainResponse(verdicts=await self._state.explain(request.items))

    async def GetHeight(self, request: pb.GetHeightRequest, context: Any) -> pb.GetHeightResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        height = await self._health.height()
        return pb.GetHeightResponse(height=height, projected=self._projection.next_block)

    async def _receipts(self, commands: Sequence[Command]) -> dict[Command, pb.Receipt]:
        """Receipts from the lists, and the rest from the peer, since the lists may be behind it."""
        found = await self._lists.receipts(commands)
        missing = [command for command in dict.fromkeys(commands) if command not in found]
        entries = await self._state.audit_entries(missing)
        blocks = await self._block_numbers.blocks_of(sorted({entry.tx_id for entry in entries.values()}))
        return found | {
            command: of_audit_entry(entry, blocks.get(entry.tx_id, 0)) for command, entry in entries.items()
        }

    async def _writer_keys(self, writer_msp: str, patients: Sequence[str]) -> dict[str, state_pb2.WriterKey]:
        """By patient. If one is not found, waits for the projection: its key may be new."""
        found = await self._lists.writer_keys(writer_msp, patients)
        missing = [patient for patient in patients if patient not in found]
        if missing and self._projection.next_block <= self._last_block:
            await self._catch_up(_KEYS_CATCH_UP_SECONDS)
            found |= await self._lists.writer_keys(writer_msp, missing)
        return found

    async def _be_current(self) -> None:
        """As `_catch_up`. Raises MeshError UNAVAILABLE when the lists are too far behind to be shown."""
        await self._catch_up(_CATCH_UP_SECONDS)
        await self._health.check_lists()

    async def _catch_up(self, wait_seconds: float) -> None:
        """Wait until the lists have what was committed through this service."""
        await self._projection.wait_for(self._last_block, wait_seconds)
