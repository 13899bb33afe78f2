"""Evidence for readers: the members' peers sign the state that was asked for, and nothing else.

A block is a proof only as a whole, and it also holds what concerns others. Peers sign the answer to a query
as they sign a transaction. The same answer from a majority of peers proves exactly what was asked.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import audit_key, record_key
from fabric_gateway import Action, EndorseError, EvaluateError, MalformedMessage
from services.ledger.channel.peer_state import PeerState, mesh_error
from services.ledger.channel.ports import Channel
from services.ledger.domain.batches import command_id_of
from services.ledger.projection.lists import Lists
from services.runtime.errors import MeshError
from services.runtime.ttl_cache import TtlCache

_TRIES = 5
_FIRST_DELAY_SECONDS = 0.03
"""Peers commit a block some milliseconds apart. Until then their answers differ."""

_TRANSACTIONS_AT_ONCE = 8
_COMMANDS_REMEMBERED = 8_192
_REGISTRATIONS_REMEMBERED, _REGISTRATION_SECONDS = 4_096, 600.0
"""Of some 2 kB each."""


class EvidenceCollector:
    """Collects evidence. Raises MeshError."""

    def __init__(self, channel: Channel, state: PeerState, lists: Lists) -> None:
        self._channel = channel
        self._state = state
        self._lists = lists
        self._commands: TtlCache[tuple[str, str], command_pb2.SignedCommand] = TtlCache(_COMMANDS_REMEMBERED)
        self._registrations: TtlCache[str, command_pb2.SignedCommand] = TtlCache(
            _REGISTRATIONS_REMEMBERED, seconds=_REGISTRATION_SECONDS, spread=True
        )
        self._slots = asyncio.Semaphore(_TRANSACTIONS_AT_ONCE)

    async def of_versions(
        self, places: Sequence[tuple[str, int]], *, own_peer_only: bool = False
    ) -> ledger_pb2.Evidence:
        """Evidence of versions of records. Raises NOT_FOUND, UNAVAILABLE.

        own_peer_only  no majority answers: only the own peer signs
        """
        keys = [record_key(*place) for place in places]
        endorsed, values = await self._endorsed(keys, own_peer_only=own_peer_only)
        records = [state_pb2.RecordVersion.FromString(value) for value in values]
        return await self._with_commands(endorsed, [(one.tx_id, one.command_id) for one in records])

    async def of_command(self, command_id: str, signer: str, concerning: str) -> ledger_pb2.Evidence:
        """Evidence of a command, with the version of a record that it wrote.

        Raises NOT_FOUND, also when the command does not concern `concerning`.
        """
        entry = await self._entry(command_id, signer, concerning)
        keys = [audit_key(command_id, entry.signer)]
        if entry.action == "write" and entry.code == code_pb2.CODE_OK:
            keys.append(record_key(entry.record_id, entry.version))
        endorsed, _ = await self._endorsed(keys)
        return await self._with_commands(endorsed, [(entry.tx_id, command_id)])

    async def _entry(self, command_id: str, signer: str, concerning: str) -> state_pb2.AuditEntry:
        if signer:
            entries = [*(await self._state.audit_entries([(command_id, signer)])).values()]
        else:
            entries = await self._lists.entries(command_id)
        for entry in entries:
            if concerning in (entry.signer, entry.on_behalf_of, entry.patient, entry.subject):
                return entry
        raise MeshError.not_found(
            "no such command that concerns you is committed on this member's peer", "command_id"
        )

    async def _endorsed(
        self, keys: Sequence[str], *, own_peer_only: bool = False
    ) -> tuple[bytes, list[bytes]]:
        query = state_pb2.Query(get_keys=state_pb2.GetKeys(keys=keys)).SerializeToString()
        ask = self._channel.endorse_query_here if own_peer_only else self._channel.endorse_query
        payload, answer = await self._endorse(ask, query)
        try:
            values = list(state_pb2.QueryResult.FromString(answer).values)
        except DecodeError as exc:
            raise MeshError.internal("the chaincode's answer cannot be read") from exc
        if len(values) != len(keys) or not all(values):
            raise MeshError.not_found("what is to be proven is not committed")
        return payload, values

    async def _endorse(
        self, ask: Callable[[bytes], Awaitable[tuple[bytes, bytes]]], query: bytes
    ) -> tuple[bytes, bytes]:
        delay_seconds, left = _FIRST_DELAY_SECONDS, _TRIES
        while True:
            left -= 1
            try:
                return await ask(query)
            except EvaluateError as exc:
                raise mesh_error(exc) from exc
            except EndorseError as exc:
                if not left:
                    raise MeshError.unavailable(
                        "the peers of too few members answer, or they do not agree yet; ask again",
                        retry_after_ms=500,
                    ) from exc
            # Jitter, not a secret.
            await asyncio.sleep(delay_seconds * random.uniform(0.5, 1.0))  # noqa: S311
            delay_seconds *= 3

    async def _with_commands(self, endorsed: bytes, wanted: Iterable[tuple[str, str]]) -> ledger_pb2.Evidence:
        by_transaction: dict[str, list[str]] = {}
        for tx_id, command_id in dict.fromkeys(wanted):
            by_transaction.setdefault(tx_id, []).append(command_id)
        found = await asyncio.gather(*(self._of(tx_id, ids) for tx_id, ids in by_transaction.items()))
        signed = [one for some in found for one in some]
        people = {one.signer for one in signed}
        people |= {_delegator(one) for one in signed if one.HasField("delegation")}
        return ledger_pb2.Evidence(
            endorsed_state=endorsed, commands=signed, registrations=await self._registered(sorted(people))
        )

    async def _registered(self, people: Sequence[str]) -> list[command_pb2.SignedCommand]:
        """The signed registrations of these people. Their signatures prove them, however old they are."""
        known = {one: self._registrations.get(one) for one in people}
        asked = [one for one, registration in known.items() if registration is None]
        answers = await self._state.identities(asked) if asked else []
        for one, answer in zip(asked, answers, strict=True):
            if answer is not None:
                known[one] = answer[1]
                self._registrations.put(one, answer[1])
        return [registration for registration in known.values() if registration is not None]

    async def _of(self, tx_id: str, command_ids: Sequence[str]) -> list[command_pb2.SignedCommand]:
        """The signed commands with those ids in a transaction."""
        known = [self._commands.get((tx_id, command_id)) for command_id in command_ids]
        found = [one for one in known if one is not None]
        if len(found) == len(command_ids):
            return found
        async with self._slots:
            try:
                action = await self._action(tx_id)
                batch = state_pb2.Batch.FromString(action.arguments[1]) if action else state_pb2.Batch()
            except EvaluateError as exc:
                raise mesh_error(exc) from exc
            except (DecodeError, MalformedMessage, IndexError) as exc:
                raise MeshError.internal("a committed transaction cannot be read") from exc
        wanted, there = set(command_ids), list[command_pb2.SignedCommand]()
        for item in batch.items:
            for signed in item.group.commands:
                command_id = command_id_of(signed)
                if command_id in wanted:
                    own = _copy(signed)
                    self._commands.put((tx_id, command_id), own)
                    there.append(own)
        return there

    async def _action(self, tx_id: str) -> Action | None:
        """The action of the valid transaction.

        Read by itself first; from its block when an invalid envelope has the same id.
        """
        with suppress(MalformedMessage):
            transaction = await self._channel.transaction(tx_id)
            if transaction.valid:
                return transaction.action
        block = await self._channel.block_by_transaction(tx_id)
        found = (one for one in block.transactions if one.transaction_id == tx_id and one.valid)
        return next((one.action for one in found), None)


def _delegator(signed: command_pb2.SignedCommand) -> str:
    return command_pb2.Delegation.FromString(signed.delegation.delegation).delegator


def _copy(signed: command_pb2.SignedCommand) -> command_pb2.SignedCommand:
    """A copy, since a part of a message keeps the whole message in memory."""
    own = command_pb2.SignedCommand()
    own.CopyFrom(signed)
    return own
