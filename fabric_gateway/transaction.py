"""A transaction on its way: Proposal -> Transaction -> Commit, each sent by one call.

Each of the three is bytes that are signed before they are sent. With a signer in the Gateway that
happens by itself. Offline, whoever holds the key signs `digest`, and goes on with `with_signature`;
`to_bytes` and the Gateway's `proposal`, `transaction` and `commit` carry a step between processes:

    proposal = contract.propose("process", batch)                    # no key here
    proposal = proposal.with_signature(sign(proposal.digest))        # the key is elsewhere
    transaction = await proposal.endorse()
    transaction = transaction.with_signature(sign(transaction.digest))
    commit = await transaction.submit()
    commit = commit.with_signature(sign(commit.digest))
    status = await commit.status()
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from . import _protos as fabric
from . import blocks
from .connection import Connection
from .errors import (
    CommitError,
    CommitStatusError,
    EndorseError,
    EvaluateError,
    SubmitError,
)
from .identity import sha256
from .proposal import channel_of_payload, channel_of_proposal


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """Where a transaction is, and whether it was found valid there."""

    transaction_id: str
    code: int
    block_number: int

    @property
    def successful(self) -> bool:
        return self.code == blocks.VALID

    @property
    def name(self) -> str:
        """The name of the code, such as MVCC_READ_CONFLICT."""
        return blocks.validation_name(self.code)


class _Step(ABC):
    """A message with the signed bytes and the signature in it.

    `channel`: of the message, when whoever made it knows it; else it is read from the signed bytes.
    """

    def __init__(self, connection: Connection, message: Any, channel: str = "") -> None:
        self._connection = connection
        self._message = message
        self._channel = channel

    @property
    def transaction_id(self) -> str:
        return self._message.transaction_id

    @cached_property
    def digest(self) -> bytes:
        """What the key signs: SHA-256, 32 bytes."""
        return sha256(self._signed_bytes(self._message))

    def with_signature(self, signature: bytes) -> Self:
        """The same with an ECDSA P-256 signature (DER, low s) over `digest`."""
        message = type(self._message)()
        message.CopyFrom(self._message)
        self._holder(message).signature = signature
        return type(self)(self._connection, message, self._channel)

    def to_bytes(self) -> bytes:
        """The message, serialized."""
        return self._message.SerializeToString()

    def _signed(self) -> Any:
        """The message, signed by the Gateway's signer when nobody signed it before."""
        holder = self._holder(self._message)
        if not holder.signature:
            holder.signature = self._connection.sign(self.digest)
        return self._message

    @abstractmethod
    def _holder(self, message: Any) -> Any:
        """The part of the message that carries the signature."""

    @abstractmethod
    def _signed_bytes(self, message: Any) -> bytes:
        """What is signed."""


class Proposal(_Step):
    """A call of a chaincode function, to be evaluated or endorsed (gateway.ProposedTransaction)."""

    def _holder(self, message: Any) -> Any:
        return message.proposal

    def _signed_bytes(self, message: Any) -> bytes:
        return message.proposal.proposal_bytes

    async def evaluate(self) -> bytes:
        """The chaincode's answer from one peer, of the proposal's organisations when it names any.

        Nothing is recorded. Raises EvaluateError.
        """
        message = self._signed()
        request = fabric.gateway.EvaluateRequest(
            transaction_id=self.transaction_id,
            channel_id=self._channel_id,
            proposed_transaction=message.proposal,
            target_organizations=message.endorsing_organizations,
        )
        connection = self._connection
        seconds = connection.deadlines.evaluate_seconds
        answer = await connection.call(
            connection.stub.Evaluate, request, seconds, EvaluateError, self.transaction_id
        )
        return answer.result.payload

    async def endorse(self) -> "Transaction":
        """Endorsed by the named organisations, else by as many as the policy needs. Raises EndorseError."""
        message = self._signed()
        request = fabric.gateway.EndorseRequest(
            transaction_id=self.transaction_id,
            channel_id=self._channel_id,
            proposed_transaction=message.proposal,
            endorsing_organizations=message.endorsing_organizations,
        )
        connection = self._connection
        seconds = connection.deadlines.endorse_seconds
        answer = await connection.call(
            connection.stub.Endorse, request, seconds, EndorseError, self.transaction_id
        )
        prepared = fabric.gateway.PreparedTransaction(
            transaction_id=self.transaction_id, envelope=answer.prepared_transaction
        )
        return Transaction(connection, prepared, self._channel_id)

    @cached_property
    def _channel_id(self) -> str:
        return self._channel or channel_of_proposal(self._message.proposal.proposal_bytes)


class Transaction(_Step):
    """An endorsed transaction, to be submitted (gateway.PreparedTransaction)."""

    def _holder(self, message: Any) -> Any:
        return message.envelope

    def _signed_bytes(self, message: Any) -> bytes:
        return message.envelope.payload

    @cached_property
    def action(self) -> blocks.Action:
        """What the chaincode answered, and what it will write. Raises MalformedMessage."""
        return blocks.decode_prepared(self._message.envelope)

    @property
    def payload(self) -> bytes:
        """The serialized common.Payload, with the endorsers' signatures in it."""
        return self._message.envelope.payload

    @property
    def result(self) -> bytes:
        """The chaincode's answer, as endorsed. It holds only once the transaction is committed."""
        return self.action.result

    async def submit(self) -> "Commit":
        """Send to the orderer. Sent again it is the same transaction. Raises SubmitError."""
        message = self._signed()
        request = fabric.gateway.SubmitRequest(
            transaction_id=self.transaction_id,
            channel_id=self._channel_id,
            prepared_transaction=message.envelope,
        )
        connection = self._connection
        seconds = connection.deadlines.submit_seconds
        await connection.call(connection.stub.Submit, request, seconds, SubmitError, self.transaction_id)
        return self.commit()

    def commit(self) -> "Commit":
        """What to ask after a submission whose answer was lost."""
        return Commit.of(self._connection, self._channel_id, self.transaction_id)

    @cached_property
    def _channel_id(self) -> str:
        return self._channel or channel_of_payload(self._message.envelope.payload)


class Commit(_Step):
    """A transaction that was submitted, now or long ago (gateway.SignedCommitStatusRequest)."""

    @classmethod
    def of(cls, connection: Connection, channel: str, transaction_id: str) -> "Commit":
        request = fabric.gateway.CommitStatusRequest(
            transaction_id=transaction_id, channel_id=channel, identity=connection.creator
        )
        return cls(connection, fabric.gateway.SignedCommitStatusRequest(request=request.SerializeToString()))

    @property
    def transaction_id(self) -> str:
        return fabric.gateway.CommitStatusRequest.FromString(self._message.request).transaction_id

    def _holder(self, message: Any) -> Any:
        return message

    def _signed_bytes(self, message: Any) -> bytes:
        return message.request

    async def status(self, wait_seconds: float | None = None) -> CommitStatus:
        """Wait until the peer has it in a block. Raises CommitStatusError: its fate is not known."""
        request = self._signed()
        connection, transaction_id = self._connection, self.transaction_id
        seconds = connection.deadlines.commit_status_seconds if wait_seconds is None else wait_seconds
        answer = await connection.call(
            connection.stub.CommitStatus, request, seconds, CommitStatusError, transaction_id
        )
        return CommitStatus(transaction_id, answer.result, answer.block_number)

    async def confirm(self) -> CommitStatus:
        """The status, when it is valid. Raises CommitError when it is not, CommitStatusError when unknown."""
        status = await self.status()
        if not status.successful:
            raise CommitError(self.transaction_id, status.code, status.name, status.block_number)
        return status
