"""What can go wrong for a user of the mesh.

MeshError               any: a code of the closed list, a sentence, where, and when to try again
├── NotCommitted        the channel refused a command: its receipt says why
│   └── AccessRefused   that command was a reading
└── WalletError         the wallet's files are missing, unreadable or of another channel
"""

from __future__ import annotations

import grpc
from grpc_status import rpc_status

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt

_BY_STATUS = {
    grpc.StatusCode.UNAVAILABLE: code_pb2.CODE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: code_pb2.CODE_DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: code_pb2.CODE_TOO_LARGE,
    grpc.StatusCode.UNAUTHENTICATED: code_pb2.CODE_UNAUTHENTICATED,
    grpc.StatusCode.CANCELLED: code_pb2.CODE_UNAVAILABLE,
}


class MeshError(Exception):
    """A call did not do what was asked."""

    def __init__(self, code: int, reason: str, path: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(f"{name_of(code)}: {reason}" + (f" (at {path})" if path else ""))
        self.code = code
        self.reason = reason
        self.path = path
        self.retry_after_ms = retry_after_ms

    @property
    def code_name(self) -> str:
        """The code without its prefix, such as `FORBIDDEN`."""
        return name_of(self.code)


class NotCommitted(MeshError):
    """The channel refused a command."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.code, receipt.reason, receipt.path)
        self.receipt = receipt


class AccessRefused(NotCommitted):
    """Policy or consent refused a reading. The refusal is on the channel: `receipt.tx_id`."""


class WalletError(MeshError):
    """The wallet cannot be used as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(code_pb2.CODE_INVALID, reason)


def name_of(code: int) -> str:
    """A code's name without its prefix."""
    return code_pb2.Code.Name(code_pb2.Code.ValueType(code)).removeprefix("CODE_")


def from_rpc(error: grpc.aio.AioRpcError) -> MeshError:
    """Turn a failed call into ours, with the detail that every error of the mesh carries."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:
        status = None
    for detail in status.details if status else ():
        ours = code_pb2.ErrorDetail()
        if detail.Unpack(ours):
            return MeshError(ours.code, ours.reason, ours.path, ours.retry_after_ms)
    code = _BY_STATUS.get(error.code(), code_pb2.CODE_INTERNAL)
    return MeshError(code, error.details() or "the gateway gave no reason")
