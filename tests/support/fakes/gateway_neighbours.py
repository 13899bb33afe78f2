"""A member in memory: a ledger and a storage that behave as the protos say."""

import asyncio
import hashlib
from collections.abc import Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Access, SignedCommand
from cbmdhi.command.v1.state_pb2 import (
    ConsentDocument,
    ExplainItem,
    IdentityDocument,
    IdentityStatus,
    RecordVersion,
    ReplicaReceipt,
    SealedBatch,
    StoredContent,
    Verdict,
)
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.ledger.v1.ledger_pb2 import GroupReceipt, Receipt, SealedGroup
from cbmdhi.protocol import authorship, command, envelope, hpke
from cbmdhi.protocol.ids import uuid7
from cbmdhi.storage.v1 import storage_pb2
from services.runtime.errors import MeshError, to_detail
from tests.support.fakes.gateway_people import NOW_ACTIVE, Person

HOLDERS = ("MercyMSP", "LakesideMSP")


class FakeLedger:
    """Commits what it is given, once; refuses what `refuse` names.

    hold       while cleared, Submit waits
    failure    raised by Submit, before anything is done
    lost       raised by Submit after everything was done: the answer that was lost
    blind      nothing that was committed can be looked up
    questions  how often somebody looked up what was committed
    """

    def __init__(self) -> None:
        self.people: dict[str, IdentityDocument] = {}
        self.committed: dict[tuple[str, str], tuple[bytes, Receipt]] = {}
        self.records_kept: dict[tuple[str, int], RecordVersion] = {}
        self.refuse: dict[str, tuple[int, str]] = {}
        self.hold = asyncio.Event()
        self.hold.set()
        self.failure: MeshError | None = None
        self.lost: MeshError | None = None
        self.away = False
        self.blind = False
        self.questions = 0
        self.submitted: list[list[SealedGroup]] = []
        self.seals: list[list[SealedBatch]] = []
        self.looked_up: list[str] = []
        self.asked_for: list[str] = []
        self.asked_together: list[int] = []
        self.searchable: set[str] = set()
        self.proven: list[list[tuple[str, int]]] = []
        self.explained: list[ExplainItem] = []
        self.glasses: dict[tuple[str, str], SignedCommand] = {}

    def register(self, *people: Person, status: IdentityStatus = NOW_ACTIVE) -> None:
        for person in people:
            self.people[person.address] = person.document(status)

    def suspend(self, person: Person) -> None:
        self.people[person.address].status = IdentityStatus.IDENTITY_STATUS_SUSPENDED

    async def submit(
        self, submissions: Sequence[SealedGroup], seals: Sequence[SealedBatch] = ()
    ) -> list[GroupReceipt]:
        self.submitted.append(list(submissions))
        self.seals.append(list(seals))
        await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        answers = [GroupReceipt(receipts=self._settle(one)) for one in submissions]
        if self.lost is not None:
            raise self.lost
        return answers

    async def identity(self, address: str) -> IdentityDocument | None:
        self.asked_for.append(address)
        if self.away:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        document = self.people.get(address)
        if document is None:
            return None
        copy = IdentityDocument()
        copy.CopyFrom(document)
        return copy

    async def identities(self, addresses: Sequence[str]) -> list[IdentityDocument | None]:
        self.asked_together.append(len(addresses))
        return [await self.identity(address) for address in addresses]

    async def receipts(self, commands: Sequence[tuple[str, str]]) -> list[Receipt | None]:
        self.questions += 1
        if self.blind:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        return [await self.receipt(command_id, signer) for signer, command_id in commands]

    async def record_versions(self, places: Sequence[tuple[str, int]]) -> list[RecordVersion | None]:
        self.questions += 1
        if self.blind:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        return [await self.record(record_id, version) for record_id, version in places]

    async def receipt(self, command_id: str, signer: str) -> Receipt | None:
        self.looked_up.append(command_id)
        found = self.committed.get((signer, command_id))
        if found is None:
            return None
        receipt = _copied(found[1])
        receipt.command_sha256 = found[0]
        return receipt

    async def record(self, record_id: str, version: int) -> RecordVersion | None:
        if version == 0:
            versions = [key for key in self.records_kept if key[0] == record_id]
            return self.records_kept[max(versions)] if versions else None
        return self.records_kept.get((record_id, version))

    async def latest_versions(self, record_ids: Sequence[str]) -> list[RecordVersion | None]:
        return [await self.record(record_id, 0) for record_id in record_ids]

    async def prove_versions(self, places: Sequence[tuple[str, int]]) -> ledger_pb2.Evidence:
        self.proven.append(list(places))
        return ledger_pb2.Evidence(endorsed_state=repr(places).encode())

    async def prove_command(self, command_id: str, signer: str, concerning: str) -> ledger_pb2.Evidence:
        return ledger_pb2.Evidence(endorsed_state=f"{command_id} of {signer} for {concerning}".encode())

    async def records(self, request: ledger_pb2.ListRecordsRequest) -> ledger_pb2.ListRecordsResponse:
        found = [
            one
            for one in reversed(self.records_kept.values())
            if one.patient == request.patient and request.category in ("", one.category)
        ]
        start, size = int(request.page_token or 0), request.page_size or 100
        following = str(start + size) if len(found) > start + size else ""
        return ledger_pb2.ListRecordsResponse(records=found[start : start + size], next_page_token=following)

    async def explain(self, items: Sequence[ExplainItem]) -> list[Verdict]:
        self.explained.extend(items)
        return [
            Verdict(code=code_pb2.CODE_OK if one.record_id in self.searchable else code_pb2.CODE_FORBIDDEN)
            for one in items
        ]

    async def broken_glass(self, break_glass_id: str, clinician: str) -> SignedCommand | None:
        return self.glasses.get((break_glass_id, clinician))

    async def consents(self, patient: str) -> ConsentDocument:
        return ConsentDocument(patient=patient, version=1)

    def _settle(self, submission: SealedGroup) -> list[Receipt]:
        commands = submission.item.group.commands
        headers = [command.parse(signed)[0] for signed in commands]
        keys = [(s.signer, h.command_id) for s, h in zip(commands, headers, strict=True)]
        known = [self.committed.get(key) for key in keys]
        if all(known):
            return [
                _again(first[1])
                if first[0] == command.sha256(signed)
                else _receipt(key, code_pb2.CODE_CONFLICT, "this id was used for another command")
                for key, signed, first in zip(keys, commands, known, strict=True)
                if first is not None
            ]
        refused = [
            self.refuse.get(header.command_id) or self._taken(signed)
            for header, signed in zip(headers, commands, strict=True)
        ]
        tx_id = hashlib.sha256(repr(keys).encode()).hexdigest()
        receipts: list[Receipt] = []
        for key, why in zip(keys, refused, strict=True):
            if any(refused):
                code, reason = why or (code_pb2.CODE_GROUP_REFUSED, "another command was refused")
                receipts.append(_receipt(key, code, reason))
                if code == code_pb2.CODE_CONFLICT:
                    receipts[-1].path = "body.put_record.version"
            else:
                receipts.append(_receipt(key, code_pb2.CODE_OK, "", tx_id))
        for index, (key, signed, receipt) in enumerate(zip(keys, commands, receipts, strict=True)):
            if receipt.code in (code_pb2.CODE_OK, code_pb2.CODE_FORBIDDEN):
                receipt.tx_id, receipt.block = tx_id, len(self.committed) + 1
                receipt.outcome = code_pb2.OUTCOME_COMMITTED
                self.committed[key] = (command.sha256(signed), _copied(receipt))
            if receipt.code == code_pb2.CODE_OK:
                self._keep(submission, index, signed, key)
        return receipts

    def _taken(self, signed: SignedCommand) -> tuple[int, str] | None:
        body = command.parse(signed)[1]
        if (
            body.HasField("put_record")
            and (body.put_record.record_id, body.put_record.version) in self.records_kept
        ):
            return code_pb2.CODE_CONFLICT, "this version is there already: write the next one"
        return None

    def _keep(self, submission: SealedGroup, index: int, signed: SignedCommand, key: tuple[str, str]) -> None:
        body = command.parse(signed)[1]
        if body.HasField("register_identity"):
            asked = body.register_identity
            self.people[asked.address] = IdentityDocument(
                address=asked.address,
                role=asked.role,
                home_msp=asked.home_msp,
                status=NOW_ACTIVE,
                signing_public_key=asked.signing_public_key,
                hpke_public_key=asked.hpke_public_key,
            )
        if not body.HasField("put_record"):
            return
        content = next(one for one in submission.item.contents if one.command_index == index)
        one = body.put_record
        self.records_kept[one.record_id, one.version] = RecordVersion(
            record_id=one.record_id,
            version=one.version,
            patient=one.patient,
            category=one.category,
            content_commitment=one.content_commitment,
            content_bytes=one.content_bytes,
            author=authorship.claimed(signed).author,
            signed_by=signed.signer,
            content=content,
            command_id=key[1],
            written_at_ms=1_700_000_000_000,
        )


class FakeStorage:
    """Seals for real, under one writer key; `stored` is what is pinned, by CID.

    hold         while cleared, OpenMany waits
    refuse_open  codes by command id: what OpenMany says of those, and Open does not
    """

    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        self._writer_key = bytes(32)
        self._bindings: dict[str, envelope.Binding] = {}
        self.stored: dict[str, list[bytes]] = {}
        self.batches: list[list[str]] = []
        self.named: list[tuple[str, str]] = []
        self.sealed_items = 0
        self.failure: MeshError | None = None
        self.refuse: dict[str, tuple[int, str]] = {}
        self.opened: list[str] = []
        self.opened_together: list[int] = []
        self.refuse_open: dict[str, int] = {}
        self.hold = asyncio.Event()
        self.hold.set()
        self.tamper = False

    async def seal(self, items: Sequence[storage_pb2.SealItem]) -> storage_pb2.SealResponse:
        if self.failure is not None:
            raise self.failure
        root = hashlib.sha256(str(len(self.batches)).encode()).digest()
        results = [self._seal(item, root) for item in items]
        self.batches.append([one.stored.cid for one in results if one.code == code_pb2.CODE_OK])
        self.sealed_items += len(items)
        self.named += [(item.command_id, item.signer) for item in items]
        receipts = [ReplicaReceipt(root_sha256=root, msp=msp, held_at_ms=1) for msp in HOLDERS]
        return storage_pb2.SealResponse(
            results=results, seals=[SealedBatch(root_sha256=root, receipts=receipts)]
        )

    async def open(self, tx_id: str, command_id: str) -> storage_pb2.OpenResponse:
        self.opened.append(tx_id)
        access, reader = self._access(tx_id, command_id)
        record = await self._ledger.record(access.record_id, access.version)
        assert record is not None
        blocks = self.stored[record.content.cid]
        binding = self._bindings[record.content.cid]
        data_key = envelope.unwrap_data_key(envelope.header(blocks[0])[0], self._writer_key, binding)
        sealed = hpke.seal(
            self._ledger.people[reader].hpke_public_key,
            data_key if not self.tamper else bytes(32),
            hpke.DATA_KEY,
            reader,
            command_id,
            record.record_id,
            str(record.version),
        )
        return storage_pb2.OpenResponse(
            blocks=blocks, sealed_data_key=sealed, released_by="MercyMSP", record=record
        )

    async def open_many(self, opens: Sequence[storage_pb2.OpenRequest]) -> list[storage_pb2.OpenResult]:
        self.opened_together.append(len(opens))
        await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return [await self._open_result(one) for one in opens]

    async def _open_result(self, one: storage_pb2.OpenRequest) -> storage_pb2.OpenResult:
        code = self.refuse_open.get(one.command_id)
        if code is not None:
            return storage_pb2.OpenResult(error=to_detail(MeshError(code, "not here")))
        try:
            return storage_pb2.OpenResult(opened=await self.open(one.tx_id, one.command_id))
        except MeshError as err:
            return storage_pb2.OpenResult(error=to_detail(err))

    async def blob(self, cid: str) -> bytes:
        if cid not in self.stored:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "there is no such block", "cid")
        return self.stored[cid][0]

    def _access(self, tx_id: str, command_id: str) -> tuple[Access, str]:
        for batch in self._ledger.submitted:
            for submission in batch:
                for signed in submission.item.group.commands:
                    header, body = command.parse(signed)
                    receipt = self._ledger.committed.get((signed.signer, header.command_id))
                    if header.command_id == command_id and receipt and receipt[1].tx_id == tx_id:
                        return body.access, signed.signer
        raise MeshError(code_pb2.CODE_FORBIDDEN, "no such decision")

    def _seal(self, item: storage_pb2.SealItem, root: bytes) -> storage_pb2.SealResult:
        if item.record_id in self.refuse:
            code, reason = self.refuse[item.record_id]
            return storage_pb2.SealResult(code=code, reason=reason)  # type: ignore[arg-type]
        assert envelope.commitment(item.salt, item.content) == item.content_commitment
        binding = envelope.Binding(item.patient, item.record_id, item.version)
        sealed = envelope.seal(item.content, item.salt, binding, uuid7(), self._writer_key)
        self.stored[sealed.cid] = [block for _, block in sealed.blocks]
        self._bindings[sealed.cid] = binding
        stored = StoredContent(
            cid=sealed.cid, stored_bytes=sealed.stored_bytes, replicas=HOLDERS, root_sha256=root
        )
        return storage_pb2.SealResult(code=code_pb2.CODE_OK, stored=stored)


def _receipt(key: tuple[str, str], code: int, reason: str, tx_id: str = "") -> Receipt:
    outcome = code_pb2.OUTCOME_COMMITTED if tx_id else code_pb2.OUTCOME_NOT_DONE
    return Receipt(command_id=key[1], signer=key[0], code=code, reason=reason, tx_id=tx_id, outcome=outcome)  # type: ignore[arg-type]


def _copied(receipt: Receipt) -> Receipt:
    copy = Receipt()
    copy.CopyFrom(receipt)
    return copy


def _again(first: Receipt) -> Receipt:
    copy = _copied(first)
    copy.already_committed = True
    return copy


class FakeShared:
    """What gateways share, in memory. `away`: as if NATS were."""

    def __init__(self) -> None:
        self.claimed: set[str] = set()
        self.ended: set[str] = set()
        self.away = False

    async def claim(self, proof_id: str, issued_at: int) -> bool:
        self._be_there()
        first = proof_id not in self.claimed
        self.claimed.add(proof_id)
        return first

    async def end(self, token_id: str) -> None:
        self._be_there()
        self.ended.add(token_id)

    async def has_ended(self, token_id: str) -> bool:
        self._be_there()
        return token_id in self.ended

    def _be_there(self) -> None:
        if self.away:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "sessions cannot be checked right now", "", 1_000)
