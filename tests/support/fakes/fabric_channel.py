"""A channel in memory: it endorses, orders and commits as Fabric does, and fails when it is told to.

Its chaincode knows no rules but idempotency: that is enough to see what the service makes of verdicts.
"""

import asyncio
import hashlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command as commands
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import audit_key, epoch_key, record_key
from fabric_gateway import Action, Block, BlockTransaction, ChainInfo, CommitStatus, PeerFailure, Write
from services.ledger.domain.endorsers import Holders
from tests.support.channel import CHANNEL as SIGNED

CHANNEL, CHAINCODE = "cbmdhi", "mesh"
MERCY, LAKESIDE = "MercyMSP", "LakesideMSP"
PATIENT = "cb1" + "p" * 32


class Named:
    """A signer whose signature nobody checks."""

    def __init__(self, name: str = "engine") -> None:
        self.address = "cb1" + name.ljust(32, "a")[:32]

    @property
    def delegation(self) -> None:
        return None

    def sign_command(self, command: bytes) -> command_pb2.SignedCommand:
        return command_pb2.SignedCommand(command=command, signature=b"signed", signer=self.address)


ENGINE = Named()


def submission(*bodies: object, signer: Named = ENGINE) -> ledger_pb2.SealedGroup:
    group = commands.make_group([(signer, body) for body in bodies], channel=SIGNED)  # type: ignore[misc]
    return ledger_pb2.SealedGroup(item=state_pb2.BatchItem(group=group))


def put_record(
    record_id: str | None = None, version: int = 1, patient: str = PATIENT
) -> command_pb2.PutRecord:
    return command_pb2.PutRecord(
        record_id=record_id or uuid7(), version=version, patient=patient, category="observations"
    )


def consent() -> command_pb2.Consent:
    return command_pb2.Consent(consent_id=uuid7(), patient=PATIENT)


def of_record() -> ledger_pb2.SealedGroup:
    return submission(put_record())


def of_consent() -> ledger_pb2.SealedGroup:
    return submission(consent())


def command_id(one: ledger_pb2.SealedGroup, index: int = 0) -> str:
    return commands.parse(one.item.group.commands[index])[0].command_id


def endorse_error(status: grpc.StatusCode, *messages: str) -> fabric.EndorseError:
    failures = tuple(PeerFailure("peer", LAKESIDE, message) for message in messages)
    return fabric.EndorseError(status, "failed to collect enough transaction endorsements", failures)


BAD_PROPOSAL_TXID = 8


@dataclass
class World:
    """The channel; plays `services.ledger.channel.ports.Channel`.

    endorse_faults  raised by the next endorsements, one each
    submit_faults   raised by the next submissions; the orderer has the transaction when `.reached` says so
    lost            so many submissions that the orderer answers for, and that go with it
    verdicts        validation codes of the next transactions that are ordered; VALID when there is none
    deaf            commit status is not answered, nor are blocks found
    clock           Unix seconds; when there is one, batches are endorsed at a time that was told alone
    poison          a command id that upsets the whole call
    forbidden       command ids that are refused, which is recorded
    shadowed        before each transaction stands a stranger's envelope that bears its id: peers find it
                    invalid, and show it to whoever asks by the id
    """

    endorse_faults: deque[Exception] = field(default_factory=deque)
    submit_faults: deque[tuple[Exception, bool]] = field(default_factory=deque)
    lost: int = 0
    verdicts: deque[int] = field(default_factory=deque)
    deaf: bool = False
    clock: float | None = None
    poison: str = ""
    forbidden: set[str] = field(default_factory=set[str])
    down: bool = False
    shadowed: bool = False
    endorsed: list[state_pb2.Batch] = field(default_factory=list)
    sealed: list[Sequence[state_pb2.SealedKey]] = field(default_factory=list)
    state: dict[str, bytes] = field(default_factory=dict)
    chain: list[Block] = field(default_factory=list)
    questions: int = 0
    ticks: int = 0
    tick_faults: deque[Exception] = field(default_factory=deque)
    fetched: list[str] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    most_in_flight: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.hold.set()
        self._add_block(())

    # --- endorse, order, commit ---

    async def endorse(
        self, batch: bytes, sealed_keys: Sequence[state_pb2.SealedKey], holders: Holders
    ) -> "FakeEndorsed":
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.hold.wait()
            return self._endorse(state_pb2.Batch.FromString(batch), batch, sealed_keys)
        finally:
            self.in_flight -= 1

    def _endorse(
        self, batch: state_pb2.Batch, raw: bytes, sealed_keys: Sequence[state_pb2.SealedKey]
    ) -> "FakeEndorsed":
        self.endorsed.append(batch)
        self.sealed.append(sealed_keys)
        if self.endorse_faults:
            raise self.endorse_faults.popleft()
        if self.clock is not None and self.epoch(int(self.clock) // 60 - 1) != int(self.clock) // 60 - 1:
            raise endorse_error(grpc.StatusCode.ABORTED, "CODE_UNAVAILABLE: epoch: call tick")
        tx_id = hashlib.sha256(f"tx {next(self._numbers)}".encode()).hexdigest()
        result, writes = self._process(batch, tx_id)
        return FakeEndorsed(self, tx_id, raw, result.SerializeToString(), writes)

    def epoch(self, number: int) -> int:
        """What stands in the place of an epoch."""
        return state_pb2.Epoch.FromString(self.state.get(epoch_key(number), b"")).number

    async def tick(self) -> "FakeEndorsed":
        self.ticks += 1
        await self.hold.wait()
        if self.tick_faults:
            raise self.tick_faults.popleft()
        now = int(self.clock or 0) // 60
        if max(self.epoch(slot) for slot in range(3)) >= now:
            raise endorse_error(grpc.StatusCode.ABORTED, "CODE_CONFLICT: epoch: begun already")
        writes = {
            epoch_key(number): state_pb2.Epoch(number=number).SerializeToString() for number in (now - 1, now)
        }
        tx_id = hashlib.sha256(f"tx {next(self._numbers)}".encode()).hexdigest()
        return FakeEndorsed(self, tx_id, b"", b"", writes)

    def _process(self, batch: state_pb2.Batch, tx_id: str) -> tuple[state_pb2.BatchResult, dict[str, bytes]]:
        writes: dict[str, bytes] = {}
        result = state_pb2.BatchResult()
        for item in batch.items:
            group = result.groups.add()
            for signed in item.group.commands:
                group.verdicts.append(self._settle(signed, item, tx_id, writes))
        return result, writes

    def _settle(
        self,
        signed: command_pb2.SignedCommand,
        item: state_pb2.BatchItem,
        tx_id: str,
        writes: dict[str, bytes],
    ) -> state_pb2.Verdict:
        try:
            header, body = commands.parse(signed)
            name, meant = commands.body_of(signed)
        except commands.MalformedCommand:
            return state_pb2.Verdict(code=code_pb2.CODE_INVALID, reason="not a command", path="command")
        if header.command_id == self.poison:
            raise endorse_error(
                grpc.StatusCode.ABORTED, "chaincode response 500, CODE_INTERNAL: batch: damaged"
            )
        if signed.signature != b"signed":
            return state_pb2.Verdict(
                command_id=header.command_id, code=code_pb2.CODE_BAD_SIGNATURE, reason="bad"
            )
        key = audit_key(header.command_id, signed.signer)
        if known := writes.get(key) or self.state.get(key):
            first = state_pb2.AuditEntry.FromString(known)
            return state_pb2.Verdict(
                command_id=header.command_id,
                code=code_pb2.CODE_ALREADY_COMMITTED,
                first_code=first.code,
                first_tx_id=first.tx_id,
            )
        code, path = code_pb2.CODE_OK, ""
        if name == "set_policy" and "permit" not in body.set_policy.policy.cedar:
            code, path = code_pb2.CODE_INVALID, "body.set_policy.policy.cedar"
        if header.command_id in self.forbidden:
            code, path = code_pb2.CODE_FORBIDDEN, ""
        entry = state_pb2.AuditEntry(
            command_id=header.command_id,
            signer=signed.signer,
            action="write" if name == "put_record" else name,
            record_id=getattr(meant, "record_id", ""),
            version=getattr(meant, "version", 0),
            patient=getattr(meant, "patient", ""),
            code=code,
            at_ms=1_000,
            tx_id=tx_id,
        )
        writes[key] = entry.SerializeToString()
        if name == "put_record" and code == code_pb2.CODE_OK:
            record = body.put_record
            document = state_pb2.RecordVersion(
                record_id=record.record_id,
                version=record.version,
                patient=record.patient,
                category=record.category,
                author=signed.signer,
                writer_msp=MERCY,
                content=item.contents[0] if item.contents else None,
                command_id=header.command_id,
                tx_id=tx_id,
            )
            writes[record_key(record.record_id, record.version)] = document.SerializeToString()
        return state_pb2.Verdict(command_id=header.command_id, code=code, path=path)

    async def order(self, endorsed: "FakeEndorsed") -> None:
        if any(one.transaction_id == endorsed.transaction_id for one in self.transactions()):
            code = fabric.DUPLICATE_TXID
        else:
            code = self.verdicts.popleft() if self.verdicts else fabric.VALID
        tx_id = endorsed.transaction_id
        await self.commit_writes(
            endorsed.writes, tx_id=tx_id, code=code, result=endorsed.result, batch=endorsed.batch
        )

    async def commit_writes(
        self,
        writes: dict[str, bytes],
        *,
        tx_id: str = "",
        code: int = fabric.VALID,
        result: bytes = b"",
        batch: bytes = b"",
    ) -> Block:
        """A block with one transaction."""
        tx_id = tx_id or hashlib.sha256(f"tx {next(self._numbers)}".encode()).hexdigest()
        if code == fabric.VALID:
            self.state.update(writes)
        written = tuple(Write(CHAINCODE, key, value, deleted=False) for key, value in writes.items())
        action = Action(CHAINCODE, _proposal(b"process", batch), 200, result, written, private=False)
        shadow = BlockTransaction(tx_id, CHANNEL, 1_000, LAKESIDE, BAD_PROPOSAL_TXID, None)
        own = BlockTransaction(tx_id, CHANNEL, 1_000, MERCY, code, action)
        block = self._add_block((shadow, own) if self.shadowed else (own,))
        async with self._moved:
            self._moved.notify_all()
        return block

    def _add_block(self, transactions: tuple[BlockTransaction, ...]) -> Block:
        number = len(self.chain)
        previous = self.chain[-1].header_hash if self.chain else b""
        header = b"header %d" % number + previous + repr(transactions).encode()
        message = common_pb2.Block(header=common_pb2.BlockHeader(number=number))
        block = Block(number, previous, hashlib.sha256(header).digest(), header, message, transactions)
        self.chain.append(block)
        return block

    def transactions(self) -> list[BlockTransaction]:
        return [one for block in self.chain for one in block.transactions]

    # --- questions ---

    async def endorse_query(self, query: bytes) -> tuple[bytes, bytes]:
        """Endorsed: the question itself, which is all that a test needs to see of it."""
        if self.endorse_faults:
            raise self.endorse_faults.popleft()
        return b"endorsed " + query, await self.query(query)

    async def endorse_query_here(self, query: bytes) -> tuple[bytes, bytes]:
        """By the own peer alone: the others may be away."""
        return b"endorsed here " + query, await self.query(query)

    async def transaction(self, transaction_id: str) -> BlockTransaction:
        self.fetched.append(transaction_id)
        for one in (await self.block_by_transaction(transaction_id)).transactions:
            if one.transaction_id == transaction_id:
                return one
        raise fabric.EvaluateError(grpc.StatusCode.UNKNOWN, "no such transaction")

    async def query(self, query: bytes) -> bytes:
        self._answer_or_be_down()
        self.questions += 1
        asked = state_pb2.Query.FromString(query)
        values = [self.state.get(key, b"") for key in asked.get_keys.keys]
        return state_pb2.QueryResult(values=values).SerializeToString()

    async def members(self) -> tuple[str, ...]:
        return (LAKESIDE, MERCY)

    async def chain_info(self) -> ChainInfo:
        self._answer_or_be_down()
        return ChainInfo(len(self.chain), self.chain[-1].header_hash)

    async def block_by_number(self, number: int) -> Block:
        self._answer_or_be_down()
        if number >= len(self.chain):
            raise fabric.EvaluateError(grpc.StatusCode.UNKNOWN, "no such block")
        return self.chain[number]

    async def block_by_transaction(self, transaction_id: str) -> Block:
        self._answer_or_be_down()
        for block in self.chain:
            if any(one.transaction_id == transaction_id for one in block.transactions):
                return block
        raise fabric.EvaluateError(grpc.StatusCode.UNKNOWN, "no such transaction")

    async def commit_status(self, transaction_id: str, wait_seconds: float) -> CommitStatus:
        for block in reversed(self.chain):
            for one in block.transactions:
                if one.transaction_id == transaction_id and not self.deaf:
                    return CommitStatus(transaction_id, one.validation_code, block.number)
        await asyncio.sleep(min(wait_seconds, 0.02))
        raise fabric.CommitStatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")

    async def blocks(self, start: int) -> AsyncGenerator[Block]:
        number = start
        while True:
            async with self._moved:
                await self._moved.wait_for(lambda wanted=number: len(self.chain) > wanted)
            yield self.chain[number]
            number += 1

    def _answer_or_be_down(self) -> None:
        if self.down or self.deaf:
            raise fabric.EvaluateError(grpc.StatusCode.UNAVAILABLE, "connection refused")


def _proposal(*arguments: bytes) -> bytes:
    call = chaincode_pb2.ChaincodeInvocationSpec()
    call.chaincode_spec.input.args.extend(arguments)
    return proposal_pb2.ChaincodeProposalPayload(input=call.SerializeToString()).SerializeToString()


@dataclass
class FakeEndorsed:
    world: World
    transaction_id: str
    batch: bytes
    result: bytes
    writes: dict[str, bytes]

    @property
    def written(self) -> frozenset[str]:
        return frozenset(self.writes)

    @property
    def changes_nothing(self) -> bool:
        return not self.writes

    async def submit(self) -> "FakeCommit":
        if self.world.submit_faults:
            fault, reached = self.world.submit_faults.popleft()
            if reached:
                await self.world.order(self)
            raise fault
        if self.world.lost:
            self.world.lost -= 1
            return self.commit()
        await self.world.order(self)
        return self.commit()

    def commit(self) -> "FakeCommit":
        return FakeCommit(self.world, self.transaction_id)


@dataclass
class FakeCommit:
    world: World
    transaction_id: str

    async def status(self, wait_seconds: float | None = None) -> CommitStatus:
        return await self.world.commit_status(self.transaction_id, wait_seconds or 1.0)
