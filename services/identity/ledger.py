"""The member's ledger service, as far as identity needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial

import grpc

from cbmdhi.command.v1.command_pb2 import CommandGroup, Role, SignedCommand
from cbmdhi.command.v1.state_pb2 import BatchItem, IdentityDocument, IdentityStatus, SealedKey
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from services.runtime.client import RetryBudget, call
from services.runtime.errors import MeshError
from services.runtime.registered import Registered

_READ_SECONDS = 5.0
_SUBMIT_SECONDS = 25.0
_PAGE = 500


class LedgerClient:
    """Reads what is committed, and submits commands. Raises MeshError and nothing else."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._retries = RetryBudget()
        self._read = partial(call, deadline_seconds=_READ_SECONDS, retries=self._retries)
        self._people = Registered(channel)

    async def identity(self, address: str) -> IdentityDocument | None:
        """See `People`: the document of an address from the peer's state."""
        return await self._people.identity(address)

    async def registration(self, address: str) -> SignedCommand:
        """The signed RegisterIdentity of an address, from the peer's state."""
        request = ledger_pb2.GetIdentityRequest(address=address)
        return (await self._read(self._stub.GetIdentity, request)).registration

    async def identities(
        self,
        *,
        role: Role = Role.ROLE_UNSPECIFIED,
        status: IdentityStatus = IdentityStatus.IDENTITY_STATUS_UNSPECIFIED,
    ) -> AsyncIterator[list[IdentityDocument]]:
        """All matching documents from the projection, 500 at a time. An unset filter matches all."""
        token = ""
        while True:
            request = ledger_pb2.ListIdentitiesRequest(
                role=role, status=status, page_size=_PAGE, page_token=token
            )
            page = await self._read(self._stub.ListIdentities, request)
            yield list(page.identities)
            token = page.next_page_token
            if not token:
                return

    async def members(self) -> ledger_pb2.ListMembersResponse:
        """Every member, the policy in force and the channel."""
        return await self._read(self._stub.ListMembers, ledger_pb2.ListMembersRequest())

    async def submit(
        self, command: SignedCommand, sealed_keys: Iterable[SealedKey] = ()
    ) -> ledger_pb2.Receipt:
        """Submit one command; gives its receipt. UNKNOWN_OUTCOME when the answer was lost."""
        item = BatchItem(group=CommandGroup(commands=[command]))
        request = ledger_pb2.SubmitRequest(
            submissions=[ledger_pb2.SealedGroup(item=item, sealed_keys=sealed_keys)]
        )
        answer = await call(
            self._stub.Submit,
            request,
            deadline_seconds=_SUBMIT_SECONDS,
            retries=self._retries,
            changes_state=self._channel,
        )
        receipts = [receipt for group in answer.groups for receipt in group.receipts]
        if len(receipts) != 1:
            raise MeshError.internal(
                "the ledger service gave no receipt for the command; send the same again"
            )
        return receipts[0]

    async def problem(self) -> str | None:
        """A readiness check: None when the ledger service answers."""
        await call(self._stub.GetHeight, ledger_pb2.GetHeightRequest(), deadline_seconds=_READ_SECONDS)
        return None
