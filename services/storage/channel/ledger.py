"""The member's own ledger service: the only source of what is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import grpc

from cbmdhi.command.v1.command_pb2 import CommandGroup, SignedCommand
from cbmdhi.command.v1.state_pb2 import (
    BatchItem,
    ExplainItem,
    IdentityDocument,
    MemberDocument,
    Verdict,
)
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError
from services.runtime.registered import certified
from services.runtime.ttl_cache import TtlCache
from services.storage.domain.batch import MAX_MESSAGE_BYTES
from services.storage.domain.keys import WriterKeyRef
from services.storage.domain.lease import Content

T = TypeVar("T")

_CALL_SECONDS = 5.0
_SUBMIT_SECONDS = 28.0
_AT_ONCE = 500
# Signatures that are checked before the loop gets its turn again.
_PORTION = 50
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
        self._read = partial(
            call,
            deadline_seconds=_CALL_SECONDS,
            retries=RetryBudget(),
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        self._consortium: TtlCache[str, Consortium] = TtlCache(1, seconds=_CONSORTIUM_SECONDS, spread=True)

    async def identities(self, addresses: Sequence[str]) -> list[IdentityDocument | MeshError]:
        """Identities as they are now, in the order of the addresses.

        The keys of each are checked against the identity's own signed registration. Otherwise the ledger
        service could put a key of its own in the place of a reader's.
        An error stands in the place of an identity that is not given: NOT_FOUND, INTEGRITY.
        """
        found: list[IdentityDocument | MeshError] = []
        for part in _parts(addresses):
            answer = await self._read(
                self._stub.GetIdentities, ledger_pb2.GetIdentitiesRequest(addresses=part)
            )
            _check_places(part, answer.identities)
            for index, (address, place) in enumerate(zip(part, answer.identities, strict=True)):
                found.append(_certified(address, place))
                if index % _PORTION == 0:
                    await asyncio.sleep(0)
        return found

    async def consortium(self) -> Consortium:
        """Members and policy, at most 30 s old."""
        known = self._consortium.get("")
        if known is not None:
            return known
        answer = await self._read(self._stub.ListMembers, ledger_pb2.ListMembersRequest())
        members = {member.msp: member for member in answer.members}
        consortium = Consortium(members, answer.policy.min_replicas)
        self._consortium.put("", consortium)
        return consortium

    async def writer_keys(self, patients: Sequence[str]) -> list[WriterKeyRef | None]:
        """For each patient the own member's writer key with the highest epoch that the channel knows."""
        found: list[WriterKeyRef | None] = []
        for part in _parts(patients):
            answer = await self._read(
                self._stub.GetWriterKeys,
                ledger_pb2.GetWriterKeysRequest(writer_msp=self._own_msp, patients=part),
            )
            _check_places(part, answer.writer_keys)
            found += [_ref(place) for place in answer.writer_keys]
        return found

    async def committed_contents(
        self, asked: Mapping[str, Sequence[Content]]
    ) -> ledger_pb2.GetCommittedContentsResponse:
        """For each batch, by its root: which contents the channel names, and whose commands are decided."""
        batches = [
            ledger_pb2.HeldBatch(
                root_cid=root,
                commands=[
                    ledger_pb2.GetReceiptRequest(command_id=one.command_id, signer=one.signer)
                    for one in contents
                ],
            )
            for root, contents in asked.items()
        ]
        answer = await self._read(
            self._stub.GetCommittedContents, ledger_pb2.GetCommittedContentsRequest(batches=batches)
        )
        _check_places(batches, answer.batches)
        for batch, found in zip(batches, answer.batches, strict=True):
            _check_places(batch.commands, found.decided)
        return answer

    async def explain(self, items: Sequence[ExplainItem]) -> list[Verdict]:
        """What the own peer's chaincode would decide now, in order."""
        answer = await self._read(self._stub.Explain, ledger_pb2.ExplainRequest(items=items))
        _check_places(items, answer.verdicts)
        return list(answer.verdicts)

    async def submit(self, commands: Sequence[SignedCommand]) -> None:
        """Submit single commands to the channel. Ask the own peer for their outcome."""
        items = [BatchItem(group=CommandGroup(commands=[signed])) for signed in commands]
        await call(
            self._stub.Submit,
            ledger_pb2.SubmitRequest(submissions=[ledger_pb2.SealedGroup(item=item) for item in items]),
            deadline_seconds=_SUBMIT_SECONDS,
        )

    async def sealed_keys(self, keys: Sequence[str]) -> list[bytes]:
        """Values of the own private data collection, in the order of the keys; empty: absent."""
        answer = await self._read(self._stub.GetSealedKeys, ledger_pb2.GetSealedKeysRequest(keys=keys))
        return list(answer.sealed)

    async def check(self) -> str | None:
        """For readiness: the ledger answers."""
        await call(self._stub.GetHeight, ledger_pb2.GetHeightRequest(), deadline_seconds=_CALL_SECONDS)
        return None


def _parts(wanted: Sequence[T]) -> Iterator[Sequence[T]]:
    return (wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE))


def _check_places(asked: Sequence[object], places: Sequence[object]) -> None:
    if len(places) != len(asked):
        raise MeshError.internal("the ledger's answer does not fit the question; send again")


def _certified(address: str, place: ledger_pb2.GetIdentityResponse) -> IdentityDocument | MeshError:
    try:
        return certified(address, place)
    except MeshError as error:
        return error


def _ref(place: ledger_pb2.GetWriterKeyResponse) -> WriterKeyRef | None:
    if not place.HasField("writer_key"):
        return None
    key = place.writer_key
    return WriterKeyRef(key.key_id, key.epoch, key.sealed_key_sha256)
