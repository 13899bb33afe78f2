"""Queries to the chaincode on the own peer: what is committed there now."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import command_pb2, state_pb2
from cbmdhi.protocol.state_keys import (
    POLICY,
    audit_key,
    broken_glass_key,
    consent_key,
    identity_key,
    member_key,
    record_key,
    registration_key,
)
from fabric_gateway import EvaluateError
from services.ledger.channel.ports import Channel
from services.ledger.domain.failures import leading_code
from services.ledger.domain.receipts import Command
from services.runtime.errors import MeshError


class PeerState:
    """Reads state by kind. Raises MeshError, and no error of Fabric."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def identity(
        self, address: str
    ) -> tuple[state_pb2.IdentityDocument, command_pb2.SignedCommand] | None:
        """The document, and the signed registration that certifies its keys."""
        return (await self.identities([address]))[0]

    async def identities(
        self, addresses: Sequence[str]
    ) -> list[tuple[state_pb2.IdentityDocument, command_pb2.SignedCommand] | None]:
        """The same for at most 500, by one query, in order; None: there is none."""
        values = await self._values(
            [key(address) for key in (identity_key, registration_key) for address in addresses]
        )
        pairs = zip(values[: len(addresses)], values[len(addresses) :], strict=True)
        return [_identity(document, registration) for document, registration in pairs]

    async def consents(self, patient: str) -> state_pb2.ConsentDocument:
        """An empty document for a patient without one."""
        value = await self._value(consent_key(patient))
        empty = state_pb2.ConsentDocument(patient=patient)
        return state_pb2.ConsentDocument.FromString(value) if value else empty

    async def record(self, record_id: str, version: int) -> state_pb2.RecordVersion | None:
        return (await self.records([(record_id, version)]))[0]

    async def records(self, places: Sequence[tuple[str, int]]) -> list[state_pb2.RecordVersion | None]:
        """Several (record id, version), by one query, in order; None: there is none."""
        values = await self._values([record_key(*place) for place in places])
        return [state_pb2.RecordVersion.FromString(value) if value else None for value in values]

    async def audit_entries(self, commands: Sequence[Command]) -> dict[Command, state_pb2.AuditEntry]:
        """The entries of several commands, by one query. A command without one is left out."""
        values = await self._values([audit_key(*command) for command in commands])
        pairs = zip(commands, values, strict=True)
        return {command: state_pb2.AuditEntry.FromString(value) for command, value in pairs if value}

    async def broken_glass(self, break_glass_id: str, clinician: str) -> command_pb2.SignedCommand | None:
        value = await self._value(broken_glass_key(break_glass_id, clinician))
        return command_pb2.SignedCommand.FromString(value) if value else None

    async def member(self, msp: str) -> state_pb2.MemberDocument | None:
        value = await self._value(member_key(msp))
        return state_pb2.MemberDocument.FromString(value) if value else None

    async def members_and_policy(
        self,
    ) -> tuple[list[state_pb2.MemberDocument], command_pb2.PolicyDocument]:
        """The documents of all members in the channel's configuration, by MSP id, and the policy in force."""
        try:
            msp_ids = await self._channel.members()
        except EvaluateError as exc:
            raise mesh_error(exc) from exc
        policy, *members = await self._values([POLICY, *(member_key(msp) for msp in msp_ids)])
        documents = [state_pb2.MemberDocument.FromString(value) for value in members if value]
        return documents, state_pb2.PolicyState.FromString(policy).policy

    async def sealed_keys(self, keys: Sequence[str]) -> list[bytes]:
        """From the own implicit private data collection, in order; empty: absent."""
        query = state_pb2.Query(get_sealed_keys=state_pb2.GetSealedKeys(keys=keys))
        return list((await self._ask(query)).values)

    async def explain(self, items: Sequence[state_pb2.ExplainItem]) -> list[state_pb2.Verdict]:
        query = state_pb2.Query(explain=state_pb2.Explain(items=items))
        return list((await self._ask(query)).verdicts)

    async def _value(self, key: str) -> bytes:
        return (await self._values([key]))[0]

    async def _values(self, keys: Sequence[str]) -> list[bytes]:
        if not keys:
            return []
        result = await self._ask(state_pb2.Query(get_keys=state_pb2.GetKeys(keys=keys)))
        if len(result.values) != len(keys):
            raise MeshError.internal("the chaincode did not answer what was asked; look at its version")
        return list(result.values)

    async def _ask(self, query: state_pb2.Query) -> state_pb2.QueryResult:
        try:
            return state_pb2.QueryResult.FromString(await self._channel.query(query.SerializeToString()))
        except EvaluateError as exc:
            raise mesh_error(exc) from exc
        except DecodeError as exc:
            raise MeshError.internal("the chaincode's answer cannot be read") from exc


def _identity(
    document: bytes, registration: bytes
) -> tuple[state_pb2.IdentityDocument, command_pb2.SignedCommand] | None:
    if not document:
        return None
    return (
        state_pb2.IdentityDocument.FromString(document),
        command_pb2.SignedCommand.FromString(registration),
    )


def mesh_error(exc: EvaluateError) -> MeshError:
    """What a failed evaluation means to a caller."""
    code = leading_code(exc.chaincode_messages)
    if code is not None:
        return MeshError(code, "the chaincode refused the question; correct what was asked")
    match exc.status.name:
        case "DEADLINE_EXCEEDED":
            return MeshError.deadline_exceeded("the member's peer did not answer in time; ask again")
        case "UNAVAILABLE" | "ABORTED" | "CANCELLED" | "RESOURCE_EXHAUSTED":
            return MeshError.unavailable(
                "the member's peer or chaincode is not there; ask again", retry_after_ms=500
            )
        case _:
            return MeshError.unavailable("the member's peer refused the question; its operator must look")
