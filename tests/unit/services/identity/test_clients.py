"""The clients of ledger and storage, against servers that have their real surface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role, SignedCommand
from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus, SealedKey
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import cid
from cbmdhi.protocol.state_keys import sealed_record_key_name
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.identity.ledger import LedgerClient
from services.identity.storage import StorageClient
from services.runtime.errors import MeshError, to_status
from tests.support.fakes.identity_member import refused


@asynccontextmanager
async def channel_to(
    add: Callable[[Any, grpc.aio.Server], None], servicer: object
) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


async def refuse(context: Any, error: MeshError) -> None:
    status = to_status(error)
    await context.abort(status.code, status.details, status.trailing_metadata)


class Ledger(ledger_pb2_grpc.LedgerServiceServicer):
    def __init__(self, pages: int = 1, receipts: int = 1) -> None:
        self.pages, self.receipts = pages, receipts
        self.asked: list[ledger_pb2.ListIdentitiesRequest] = []
        self.submitted: list[ledger_pb2.SealedGroup] = []
        self.busy = 0
        self.lose_answers = False

    async def GetIdentity(self, request: Any, context: Any) -> ledger_pb2.GetIdentityResponse:
        await refuse(context, MeshError(code_pb2.CODE_NOT_FOUND, "no such identity"))
        raise AssertionError

    async def ListIdentities(self, request: Any, context: Any) -> ledger_pb2.ListIdentitiesResponse:
        self.asked.append(request)
        page = int(request.page_token or 0)
        more = str(page + 1) if page + 1 < self.pages else ""
        return ledger_pb2.ListIdentitiesResponse(
            identities=[IdentityDocument(address=f"of page {page}")], next_page_token=more
        )

    async def Submit(self, request: Any, context: Any) -> ledger_pb2.SubmitResponse:
        if self.busy:
            self.busy -= 1
            await refuse(context, MeshError(code_pb2.CODE_RESOURCE_EXHAUSTED, "busy", retry_after_ms=1))
        self.submitted.extend(request.submissions)
        if self.lose_answers:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut off")
        receipts = [ledger_pb2.Receipt(code=code_pb2.CODE_FORBIDDEN)] * self.receipts
        return ledger_pb2.SubmitResponse(groups=[ledger_pb2.GroupReceipt(receipts=receipts)])


def ledger_channel(ledger: Ledger) -> Any:
    return channel_to(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, ledger)


async def test_an_address_that_the_channel_does_not_know_is_no_error() -> None:
    async with ledger_channel(Ledger()) as channel:
        assert await LedgerClient(channel).identity("cb1x") is None


async def test_identities_come_over_all_pages_however_many() -> None:
    ledger = Ledger(pages=25)
    async with ledger_channel(ledger) as channel:
        listed = LedgerClient(channel).identities(
            role=Role.ROLE_ADMINISTRATOR, status=IdentityStatus.IDENTITY_STATUS_ACTIVE
        )
        found = [one.address async for some in listed for one in some]
    assert found == [f"of page {page}" for page in range(25)]
    assert {(one.role, one.status) for one in ledger.asked} == {
        (Role.ROLE_ADMINISTRATOR, IdentityStatus.IDENTITY_STATUS_ACTIVE)
    }


async def test_a_refusal_by_the_channel_is_a_receipt_and_sealed_keys_travel_beside_the_command() -> None:
    ledger = Ledger()
    ledger.busy = 2
    command, key = (
        SignedCommand(signer="cb1x"),
        SealedKey(msp="MercyMSP", key=sealed_record_key_name("cb1x"), sealed=b"s"),
    )
    async with ledger_channel(ledger) as channel:
        receipt = await LedgerClient(channel).submit(command, [key])
    assert receipt.code == code_pb2.CODE_FORBIDDEN
    (submission,) = ledger.submitted
    assert list(submission.item.group.commands) == [command]
    assert list(submission.sealed_keys) == [key]


async def test_an_answer_lost_after_the_submit_may_have_been_committed() -> None:
    ledger = Ledger()
    ledger.lose_answers = True
    async with ledger_channel(ledger) as channel:
        error = await refused(LedgerClient(channel).submit(SignedCommand()))
    assert error.code == code_pb2.CODE_UNKNOWN_OUTCOME
    assert len(ledger.submitted) == 1


async def test_an_answer_without_a_receipt_is_not_taken_for_one() -> None:
    async with ledger_channel(Ledger(receipts=0)) as channel:
        assert (await refused(LedgerClient(channel).submit(SignedCommand()))).code == code_pb2.CODE_INTERNAL


class Storage(storage_pb2_grpc.StorageServiceServicer):
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def PutBlob(self, request: Any, context: Any) -> storage_pb2.PutBlobResponse:
        self.blobs[request.cid] = request.blob
        return storage_pb2.PutBlobResponse()

    async def GetBlob(self, request: Any, context: Any) -> storage_pb2.GetBlobResponse:
        return storage_pb2.GetBlobResponse(blob=self.blobs[request.cid])


async def test_evidence_comes_back_as_it_was_kept_and_changed_evidence_is_not_passed_on() -> None:
    storage = Storage()
    name = cid.raw(b"sealed")
    async with channel_to(storage_pb2_grpc.add_StorageServiceServicer_to_server, storage) as channel:
        client = StorageClient(channel)
        await client.put(b"sealed", name, "a command", "its signer")
        assert await client.get(name) == b"sealed"
        storage.blobs[name] = b"changed"
        assert (await refused(client.get(name))).code == code_pb2.CODE_INTEGRITY
