"""Who has broken into a member's gateway asks identity, notify and storage in other people's names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import grpc
import pytest
from google.protobuf.message import Message

from cbmdhi.client import Client
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import from_rpc
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.notify.v1 import notify_pb2
from cbmdhi.protocol import call as calls
from cbmdhi.storage.v1 import storage_pb2
from cbmdhi.waiting import until
from services.runtime.callers import Caller, caller_metadata
from tests.support.mesh import People, observation
from tests.support.rogue import RogueGateway, ask, refusal, written

M = TypeVar("M", bound=Message)

pytestmark = pytest.mark.asyncio(loop_scope="session")


def named(client: Client, role: str) -> Any:
    """What the gateway says of who calls."""
    return caller_metadata(Caller(client.wallet.address, role, client.wallet.member))


def forged(rogue: RogueGateway, request: M, client: Client) -> tuple[M, M]:
    """The request, signed by the gateway's own device: as itself, and as if it were somebody."""
    by = rogue.device()
    honest, lying = (calls.sign(request, by, channel=rogue.channel, msp="MercyMSP") for _ in range(2))
    cast(Any, lying).call.signer = client.wallet.address
    return honest, lying


async def told(people: People, patient: Client) -> list[notify_pb2.Notification]:
    """Something that the patient has not seen yet."""
    await written(people.engine, people.engine.records.prepare(observation(patient)))

    async def unseen() -> list[notify_pb2.Notification]:
        return await patient.inbox.list(unacknowledged_only=True)

    return await until(unseen, "the patient is told")


async def test_nobodys_notices_are_acknowledged_by_who_holds_the_gateways_keys(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    unseen = {one.notification_id for one in await told(people, patient)}
    request = notify_pb2.AcknowledgeRequest(notification_ids=unseen)
    as_itself, as_patient = forged(rogue, request, patient)
    # A call of the patient's that passed through the gateway: to read, and to the other member.
    passed = patient.connection.signed(notify_pb2.ListRequest())
    moved = notify_pb2.AcknowledgeRequest(call=passed.call, notification_ids=unseen)
    elsewhere = calls.sign(request, patient.wallet, channel=rogue.channel, msp="LakesideMSP")
    for attempt, code in (
        (request, "UNAUTHENTICATED"),
        (as_itself, "FORBIDDEN"),
        (as_patient, "BAD_SIGNATURE"),
        (moved, "INVALID"),
        (elsewhere, "FORBIDDEN"),
    ):
        error = await refusal(ask(rogue.inboxes.Acknowledge, attempt, metadata=named(patient, "patient")))
        assert error.code_name == code, error
    assert unseen <= {one.notification_id for one in await patient.inbox.list(unacknowledged_only=True)}


async def test_nobody_is_invited_in_an_administrators_name(people: People, rogue: RogueGateway) -> None:
    async with people.newcomer(pb.ROLE_CLINICIAN) as mallory:
        request = identity_pb2.InviteRequest(address=mallory.wallet.address, role=pb.ROLE_CLINICIAN)
        administrator = named(people.mercy_administrator, "administrator")
        as_itself, as_administrator = forged(rogue, request, people.mercy_administrator)
        for attempt, code in (
            (request, "UNAUTHENTICATED"),
            (as_itself, "FORBIDDEN"),
            (as_administrator, "BAD_SIGNATURE"),
        ):
            error = await refusal(ask(rogue.enrolment.Invite, attempt, metadata=administrator))
            assert error.code_name == code, error
        # An invitation that an administrator meant for somebody else, and that the gateway was to carry, is
        # not for this one, and is done once.
        async with people.newcomer(pb.ROLE_CLINICIAN) as meant:
            inviting = people.mercy_administrator.connection
            invitation = identity_pb2.InviteRequest(address=meant.wallet.address, role=pb.ROLE_CLINICIAN)
            carried = inviting.signed(invitation)
            carried.address = mallory.wallet.address
            answer = await ask(rogue.enrolment.Invite, carried, metadata=administrator)
            error = await refusal(mallory.registration.enrol(answer.secret))
            assert error.code_name == "UNAUTHENTICATED", error
            error = await refusal(ask(rogue.enrolment.Invite, carried, metadata=administrator))
            assert error.code_name == "CONFLICT", error
            await meant.registration.enrol(answer.secret)


async def test_a_registrations_evidence_is_given_to_administrators_and_not_to_their_gateway(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    identity = await patient.registration.identity()
    administrator = named(people.mercy_administrator, "administrator")
    for method, request in (
        (rogue.registrations.GetEvidence, identity_pb2.GetEvidenceRequest(address=identity.address)),
        (rogue.registrations.ListPendingReviews, identity_pb2.ListPendingReviewsRequest()),
    ):
        error = await refusal(ask(method, request, metadata=administrator))
        assert error.code_name == "UNAUTHENTICATED", error
    # Nor as a block like any other, whose CID everybody knows who can ask for an identity.
    blob = storage_pb2.GetBlobRequest(cid=identity.evidence_cid)
    error = await refusal(ask(rogue.storage.GetBlob, blob))
    assert error.code_name == "FORBIDDEN", error
    assert await people.mercy_administrator.registration.evidence(identity)


async def test_nobodys_inbox_is_read_by_who_holds_the_gateways_keys(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    assert await told(people, patient)
    as_patient = named(patient, "patient")
    error = await refusal(ask(rogue.inboxes.List, notify_pb2.ListRequest(), metadata=as_patient))
    assert error.code_name == "UNAUTHENTICATED", error

    async def first(answers: AsyncIterator[Any]) -> Any:
        try:
            return await anext(aiter(answers))
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error

    stream = rogue.inboxes.Stream(notify_pb2.StreamRequest(), metadata=as_patient, timeout=20)
    error = await refusal(first(stream))
    assert error.code_name == "UNAUTHENTICATED", error
