"""The gRPC surface of the ledger service: who may call, and which part answers."""

from collections.abc import Sequence
from typing import Any

from cbmdhi.command.v1 import state_pb2
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from services.ledger.channel.evidence import EvidenceCollector
from services.ledger.channel.peer_state import PeerState
from services.ledger.domain.batches import body_name
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

_MAX_LOOKED_UP = 500
_MAX_BATCHES = 100
_MAX_BATCH_COMMANDS = 2_000
_MAX_EXPLAINED = 1_000
_MAX_SEALED_KEYS = 100
_MAX_PROVEN = 100


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

    async def Submit(self, request: ledger_pb2.SubmitRequest, context: Any) -> ledger_pb2.SubmitResponse:
        with nothing_done():
            peer = require_peer(context, services=_SUBMITTING)
            _check_submitter(request, peer.service)
        left = remaining_seconds()
        wait_seconds = _LONGEST_SUBMIT_SECONDS if left is None else min(left, _LONGEST_SUBMIT_SECONDS)
        # By connection: each replica of a gateway has its own.
        groups = await self._submitter.submit(
            *(request.submissions, max(0.0, wait_seconds - _ANSWER_SECONDS), context.peer(), request.seals)
        )
        self._last_block = max(
            self._last_block, *(receipt.block for group in groups for receipt in group.receipts)
        )
        return ledger_pb2.SubmitResponse(groups=groups)

    async def GetIdentity(
        self, request: ledger_pb2.GetIdentityRequest, context: Any
    ) -> ledger_pb2.GetIdentityResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        _required(request.address, "address")
        found = await self._state.identity(request.address)
        if found is None:
            raise _not_found("no identity is registered under this address", "address")
        identity, registration = found
        return ledger_pb2.GetIdentityResponse(identity=identity, registration=registration)

    async def GetIdentities(
        self, request: ledger_pb2.GetIdentitiesRequest, context: Any
    ) -> ledger_pb2.GetIdentitiesResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        _count(len(request.addresses), _MAX_LOOKED_UP, "addresses")
        answer = ledger_pb2.GetIdentitiesResponse()
        for found in await self._state.identities(request.addresses):
            identity, registration = found or (None, None)
            answer.identities.add(identity=identity, registration=registration)
        return answer

    async def ListIdentities(
        self, request: ledger_pb2.ListIdentitiesRequest, context: Any
    ) -> ledger_pb2.ListIdentitiesResponse:
        require_peer(context, services=_LISTING)
        await self._be_current()
        return await self._lists.identities(request)

    async def GetConsents(
        self, request: ledger_pb2.GetConsentsRequest, context: Any
    ) -> ledger_pb2.GetConsentsResponse:
        require_peer(context, services=_GATEWAY)
        _required(request.patient, "patient")
        return ledger_pb2.GetConsentsResponse(consents=await self._state.consents(request.patient))

    async def GetRecordVersion(
        self, request: ledger_pb2.GetRecordVersionRequest, context: Any
    ) -> ledger_pb2.GetRecordVersionResponse:
        require_peer(context, services=_GATEWAY)
        _required(request.record_id, "record_id")
        if request.version:
            record = await self._state.record(request.record_id, request.version)
        else:
            await self._be_current()
            [record] = await self._lists.latest_records([request.record_id])
        if record is None:
            raise _not_found("the record has no such version", "record_id")
        return ledger_pb2.GetRecordVersionResponse(record=record)

    async def GetRecordVersions(
        self, request: ledger_pb2.GetRecordVersionsRequest, context: Any
    ) -> ledger_pb2.GetRecordVersionsResponse:
        require_peer(context, services=_GATEWAY)
        _count(len(request.versions), _MAX_LOOKED_UP, "versions")
        for place, one in enumerate(request.versions):
            _required(one.record_id, f"versions[{place}].record_id")
        answer = ledger_pb2.GetRecordVersionsResponse()
        for record in await self._state.records([(one.record_id, one.version) for one in request.versions]):
            answer.versions.add(record=record)
        return answer

    async def GetLatestVersions(
        self, request: ledger_pb2.GetLatestVersionsRequest, context: Any
    ) -> ledger_pb2.GetLatestVersionsResponse:
        require_peer(context, services=_GATEWAY)
        _count(len(request.record_ids), _MAX_LOOKED_UP, "record_ids")
        for place, record_id in enumerate(request.record_ids):
            _required(record_id, f"record_ids[{place}]")
        await self._be_current()
        answer = ledger_pb2.GetLatestVersionsResponse()
        for record in await self._lists.latest_records(request.record_ids):
            answer.versions.add(record=record)
        return answer

    async def ListRecords(
        self, request: ledger_pb2.ListRecordsRequest, context: Any
    ) -> ledger_pb2.ListRecordsResponse:
        require_peer(context, services=_GATEWAY)
        _required(request.patient, "patient")
        await self._be_current()
        return await self._lists.records(request)

    async def ListAudit(
        self, request: ledger_pb2.ListAuditRequest, context: Any
    ) -> ledger_pb2.ListAuditResponse:
        require_peer(context, services=_GATEWAY)
        _required(request.patient, "patient")
        await self._be_current()
        return await self._lists.audit(request)

    async def ListCommitted(
        self, request: ledger_pb2.ListCommittedRequest, context: Any
    ) -> ledger_pb2.ListCommittedResponse:
        require_peer(context, services=_NOTIFY)
        return await self._block_feed.page(request.from_block)

    async def GetReceipt(
        self, request: ledger_pb2.GetReceiptRequest, context: Any
    ) -> ledger_pb2.GetReceiptResponse:
        require_peer(context, services=_GATEWAY)
        _required(request.command_id, "command_id")
        _required(request.signer, "signer")
        command = request.command_id, request.signer
        receipt = (await self._receipts([command])).get(command)
        if receipt is None:
            raise _not_found("no such command is committed on this member's peer", "command_id")
        return ledger_pb2.GetReceiptResponse(receipt=receipt)

    async def GetReceipts(
        self, request: ledger_pb2.GetReceiptsRequest, context: Any
    ) -> ledger_pb2.GetReceiptsResponse:
        require_peer(context, services=_READING_RECORDS)
        _count(len(request.commands), _MAX_LOOKED_UP, "commands")
        for place, one in enumerate(request.commands):
            _required(one.command_id, f"commands[{place}].command_id")
            _required(one.signer, f"commands[{place}].signer")
        commands = [(one.command_id, one.signer) for one in request.commands]
        found = await self._receipts(commands)
        answer = ledger_pb2.GetReceiptsResponse()
        for command in commands:
            answer.receipts.add(receipt=found.get(command))
        return answer

    async def GetBrokenGlass(
        self, request: ledger_pb2.GetBrokenGlassRequest, context: Any
    ) -> ledger_pb2.GetBrokenGlassResponse:
        require_peer(context, services=_GATEWAY)
        _required(request.break_glass_id, "break_glass_id")
        _required(request.clinician, "clinician")
        command = await self._state.broken_glass(request.break_glass_id, request.clinician)
        if command is None:
            raise _not_found("this clinician has broken no glass under this id", "break_glass_id")
        return ledger_pb2.GetBrokenGlassResponse(command=command)

    async def GetCommittedContents(
        self, request: ledger_pb2.GetCommittedContentsRequest, context: Any
    ) -> ledger_pb2.GetCommittedContentsResponse:
        require_peer(context, services=_STORAGE)
        _count(len(request.batches), _MAX_BATCHES, "batches")
        _count(sum(len(batch.commands) for batch in request.batches), _MAX_BATCH_COMMANDS, "commands")
        return await self._lists.committed_contents(request.batches)

    async def Prove(self, request: ledger_pb2.ProveRequest, context: Any) -> ledger_pb2.ProveResponse:
        require_peer(context, services=_GATEWAY)
        _count(len(request.versions), _MAX_PROVEN, "versions")
        if request.versions:
            places = [(one.record_id, one.version) for one in request.versions]
            evidence = await self._evidence.of_versions(places, own_peer_only=request.own_peer_only)
        else:
            named = request.command
            _required(named.command_id, "command.command_id")
            _required(request.concerning, "concerning")
            await self._catch_up(_CATCH_UP_SECONDS)
            evidence = await self._evidence.of_command(named.command_id, named.signer, request.concerning)
        return ledger_pb2.ProveResponse(evidence=evidence)

    async def GetMember(
        self, request: ledger_pb2.GetMemberRequest, context: Any
    ) -> ledger_pb2.GetMemberResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        _required(request.msp, "msp")
        member = await self._state.member(request.msp)
        if member is None:
            raise _not_found("no member has this MSP id", "msp")
        return ledger_pb2.GetMemberResponse(member=member)

    async def ListMembers(
        self, request: ledger_pb2.ListMembersRequest, context: Any
    ) -> ledger_pb2.ListMembersResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        members, policy = await self._state.members_and_policy()
        return ledger_pb2.ListMembersResponse(members=members, policy=policy, channel=self._channel_name)

    async def GetWriterKey(
        self, request: ledger_pb2.GetWriterKeyRequest, context: Any
    ) -> ledger_pb2.GetWriterKeyResponse:
        require_peer(context, services=_STORAGE)
        _required(request.writer_msp, "writer_msp")
        _required(request.patient, "patient")
        found = await self._writer_keys(request.writer_msp, [request.patient])
        if not found:
            raise _not_found("this member has no writer key for the patient yet", "patient")
        return ledger_pb2.GetWriterKeyResponse(writer_key=found[request.patient])

    async def GetWriterKeys(
        self, request: ledger_pb2.GetWriterKeysRequest, context: Any
    ) -> ledger_pb2.GetWriterKeysResponse:
        require_peer(context, services=_STORAGE)
        _required(request.writer_msp, "writer_msp")
        _count(len(request.patients), _MAX_LOOKED_UP, "patients")
        found = await self._writer_keys(request.writer_msp, request.patients)
        answer = ledger_pb2.GetWriterKeysResponse()
        for patient in request.patients:
            answer.writer_keys.add(writer_key=found.get(patient))
        return answer

    async def GetSealedKeys(
        self, request: ledger_pb2.GetSealedKeysRequest, context: Any
    ) -> ledger_pb2.GetSealedKeysResponse:
        require_peer(context, services=_STORAGE)
        _count(len(request.keys), _MAX_SEALED_KEYS, "keys")
        return ledger_pb2.GetSealedKeysResponse(sealed=await self._state.sealed_keys(request.keys))

    async def Explain(self, request: ledger_pb2.ExplainRequest, context: Any) -> ledger_pb2.ExplainResponse:
        require_peer(context, services=_READING_RECORDS)
        _count(len(request.items), _MAX_EXPLAINED, "items")
        return ledger_pb2.ExplainResponse(verdicts=await self._state.explain(request.items))

    async def GetHeight(
        self, request: ledger_pb2.GetHeightRequest, context: Any
    ) -> ledger_pb2.GetHeightResponse:
        require_peer(context, services=_OF_THE_MEMBER)
        height = await self._health.height()
        return ledger_pb2.GetHeightResponse(height=height, projected=self._projection.next_block)

    async def _receipts(self, commands: Sequence[Command]) -> dict[Command, ledger_pb2.Receipt]:
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


def _check_submitter(request: ledger_pb2.SubmitRequest, service: str) -> None:
    """Only storage submits emergency accesses, and it submits nothing else."""
    opens = service == "storage"
    for submission in request.submissions:
        for signed in submission.item.group.commands:
            if (body_name(signed) == "emergency_access") != opens:
                raise MeshError.forbidden(
                    "storage carries an EmergencyAccess, which it opened, and nothing else; others do not"
                )


def _required(value: str, path: str) -> None:
    if not value:
        raise MeshError.invalid(f"{path} is required", path)


def _count(count: int, most: int, path: str) -> None:
    if count > most:
        raise MeshError.too_large(f"at most {most} at once; ask for fewer", path)


def _not_found(reason: str, path: str) -> MeshError:
    return MeshError.not_found(reason, path)
