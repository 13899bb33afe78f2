"""What can go wrong between a client and Hyperledger Fabric, one class for each step.

    FabricError
    ├── StepError            a call to the peer failed: `status`, `failures`, `transaction_id`
    │   ├── EvaluateError      nothing was asked of the channel
    │   ├── EndorseError       nothing was sent to the orderer: nothing has happened
    │   ├── SubmitError        `may_have_happened` says whether the orderer can have it all the same
    │   ├── CommitStatusError  UNKNOWN: the transaction was sent, its fate was not learned
    │   └── ChaincodeEventsError  the peer refused to send events
    ├── CommitError          the transaction is in a block and invalid: `code`, such as MVCC_READ_CONFLICT
    ├── BlockEventsError     the peer refused to deliver blocks
    ├── MalformedMessage     the peer answered with bytes that are not what they should be
    ├── BadCheckpoint        the file of a checkpoint holds something else
    └── NoSigner             a message must be signed here, and the Gateway has no signer

*Failed* is not *unknown*: after EndorseError and CommitError nothing has changed; after
CommitStatusError, and SubmitError that may have happened, the same transaction id must be asked about again.
"""

from dataclasses import dataclass

import grpc

# A gateway peer gives these before it does anything: nothing has reached an orderer. ABORTED is not among
# them: it is one orderer's refusal, and says nothing of those that were asked before it and whose answer was
# lost (internal/pkg/gateway/submit.go).
REFUSED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True, slots=True)
class PeerFailure:
    """What one peer or orderer said. `message` is foreign text: keep it out of logs."""

    address: str
    msp_id: str
    message: str


class FabricError(Exception):
    """Base of everything that this package raises."""


class StepError(FabricError):
    """A call to the gateway peer failed.

    status          the gRPC status
    failures        peers or orderers that failed, as the gateway peer reports them
    transaction_id  the transaction that the call was about
    """

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str,
        failures: tuple[PeerFailure, ...] = (),
        transaction_id: str = "",
    ) -> None:
        super().__init__(status, message, failures, transaction_id)
        self.status = status
        self.message = message
        self.failures = failures
        self.transaction_id = transaction_id

    def __str__(self) -> str:
        # The messages of peers may quote what a chaincode said: they are in `failures`, not here.
        members = ", ".join(sorted({failure.msp_id for failure in self.failures}))
        return f"{type(self).__name__}: {self.status.name}" + (f" (failed at: {members})" if members else "")

    @property
    def chaincode_messages(self) -> tuple[str, ...]:
        """What the failing peers said, without the words that a gateway peer puts in front of it."""
        spoken = [failure.message for failure in self.failures] or [self.message]
        return tuple(_without_preamble(message) for message in spoken)


class EvaluateError(StepError):
    """The evaluation failed."""


class EndorseError(StepError):
    """Too few endorsements, or endorsements that do not match. Nothing has happened."""


class SubmitError(StepError):
    """The orderer did not confirm that it has the transaction."""

    @property
    def may_have_happened(self) -> bool:
        """False when the refusal is certain; True when the answer may merely have been lost."""
        return self.status not in REFUSED


class CommitStatusError(StepError):
    """The fate of a submitted transaction is not known."""


class ChaincodeEventsError(StepError):
    """The peer refused to send events of a chaincode: no such channel, or no permission."""


class CommitError(FabricError):
    """The transaction is in a block and was found invalid: it changed nothing.

    code    a value of protos.TxValidationCode, such as 11
    name    its name, such as MVCC_READ_CONFLICT
    """

    def __init__(self, transaction_id: str, code: int, name: str, block_number: int) -> None:
        super().__init__(transaction_id, code, name, block_number)
        self.transaction_id = transaction_id
        self.code = code
        self.name = name
        self.block_number = block_number

    def __str__(self) -> str:
        return f"CommitError: {self.name} ({self.code}) in block {self.block_number}"


class BlockEventsError(FabricError):
    """The peer refused to deliver blocks: `status` is a value of common.Status, such as 403."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class MalformedMessage(FabricError):
    """Bytes from a peer are not the message that they should be."""


class NoSigner(FabricError):
    """A message must be signed, and the Gateway has no signer: sign its `digest` and use `with_signature`."""


class BadCheckpoint(FabricError):
    """A file that should hold a checkpoint holds something else: nobody knows where to go on."""


def _without_preamble(message: str) -> str:
    # "chaincode response 500, CODE_INVALID: …" (internal/pkg/gateway/apiutils.go), or the bare message.
    head, separator, rest = message.partition(", ")
    return rest if separator and head.startswith("chaincode response ") else message
