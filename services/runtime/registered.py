"""Registered identities, from the own ledger service. Their keys are checked here, not believed."""

from __future__ import annotations

from typing import Protocol

import grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import registration
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError

_SECONDS = 3.0


class People(Protocol):
    """Who is registered (`Registered`), or a fake. Raises MeshError."""

    async def identity(self, address: str) -> IdentityDocument | None:
        """The document, with keys certified by its registration; None: not registered."""
        ...


def certified(address: str, found: ledger_pb2.GetIdentityResponse) -> IdentityDocument:
    """The document that a ledger service gave for an address, its keys certified by its own registration.

    Raises MeshError NOT_FOUND, INTEGRITY.
    """
    if not found.HasField("identity"):
        raise MeshError.not_found("no identity is registered under that address")
    try:
        registration.check_keys(found.identity, found.registration)
        if found.identity.address != address:
            raise registration.NotCertified("it is another identity's")
    except registration.NotCertified as error:
        raise MeshError.integrity(
            "the ledger gave an identity that its own registration does not certify"
        ) from error
    return found.identity


class Registered:
    """See People. Raises MeshError UNAVAILABLE, INTEGRITY."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._retries = RetryBudget()

    async def identity(self, address: str) -> IdentityDocument | None:
        """See People."""
        try:
            found = await call(
                self._stub.GetIdentity,
                ledger_pb2.GetIdentityRequest(address=address),
                deadline_seconds=_SECONDS,
                retries=self._retries,
            )
        except MeshError as err:
            if err.code == code_pb2.CODE_NOT_FOUND:
                return None
            raise
        return certified(address, found)
