"""Who is let in over real connections, and on whose behalf."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol import signature
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import code_name, from_rpc_error
from tests.contract.gateway_calls import ADMINISTRATOR, CLINICIAN, ENGINE, PATIENT, records, refusal
from tests.contract.gateway_member import Caller, IdentityCa, Member, thumbprint
from tests.support.fakes.gateway_backends import CHALLENGE
from tests.support.fakes.gateway_people import Person

pytest_plugins = ("tests.contract.gateway_fixtures",)


async def test_tokens_and_certificates_that_do_not_belong_together(member: Member) -> None:
    own, other = member.identity_ca.issue(ENGINE), member.identity_ca.issue(CLINICIAN)
    bound = {"x5t#S256": thumbprint(own)}
    foreign = member.other_identity_ca.issue(ENGINE)
    callers = {
        "bound to another certificate": Caller(
            member.connect(CLINICIAN, certificate=other), member.tokens.token(CLINICIAN.address, bound)
        ),
        "of another subject than the certificate": Caller(
            member.connect(ENGINE, certificate=own), member.tokens.token(CLINICIAN.address, bound)
        ),
        "of another member": member.session(ENGINE, iss="LakesideMSP"),
        "expired": member.session(ENGINE, exp=int(time.time()) - 1),
        "for DPoP": Caller(
            member.connect(ENGINE, certificate=own),
            member.tokens.token(ENGINE.address, {"jkt": thumbprint(own)}),
        ),
        "nonsense": Caller(member.connect(ENGINE, certificate=own), "x"),
        "bound to a certificate of the same name by another CA": Caller(
            member.connect(ENGINE, certificate=foreign), member.tokens.token(ENGINE.address, bound)
        ),
    }

    for what, caller in callers.items():
        stub = gateway_pb2_grpc.CommandServiceStub(caller.channel)
        call = stub.GetReceipt(gateway_pb2.GetReceiptRequest(command_id=uuid7()), metadata=caller.metadata)
        assert (await refusal(call))[0] == "UNAUTHENTICATED", what
    without = gateway_pb2_grpc.CommandServiceStub(member.connect(ENGINE))
    assert (await refusal(without.Submit(gateway_pb2.SubmitRequest())))[0] == "UNAUTHENTICATED"


async def test_an_identity_of_another_member_that_logged_in_here_is_served(member: Member) -> None:
    certificate = member.other_identity_ca.issue(CLINICIAN)
    token = member.tokens.token(CLINICIAN.address, {"x5t#S256": thumbprint(certificate)}, "clinician")
    caller = Caller(member.connect(CLINICIAN, certificate=certificate), token)

    assert await is_served(caller)


async def is_served(caller: Caller) -> bool:
    """Whether a call that wants a session gets past the gate: nothing is known under that id."""
    stub = gateway_pb2_grpc.CommandServiceStub(caller.channel)
    call = stub.GetReceipt(gateway_pb2.GetReceiptRequest(command_id=uuid7()), metadata=caller.metadata)
    return (await refusal(call))[0] == "NOT_FOUND"


async def test_a_proof_of_what_concerns_the_certificates_owner_needs_no_session(member: Member) -> None:
    member.ledger.suspend(PATIENT)
    asked = gateway_pb2.GetProofRequest(command_id=uuid7())
    for who in (PATIENT, Person()):
        stub = gateway_pb2_grpc.RecordServiceStub(
            member.connect(who, certificate=member.identity_ca.issue(who))
        )
        answer = await stub.GetProof(asked)
        assert answer.evidence.endorsed_state == f"{asked.command_id} of  for {who.address}".encode()


async def test_a_certificate_that_no_member_issued_does_not_even_connect(member: Member) -> None:
    stranger = IdentityCa(member.folder, "stranger").issue(ENGINE)
    caller = Caller(member.connect(ENGINE, certificate=stranger), "x")
    stub = gateway_pb2_grpc.CommandServiceStub(caller.channel)

    assert (await refusal(stub.Submit(gateway_pb2.SubmitRequest(), timeout=5)))[0] == "UNAVAILABLE"


async def test_forged_names_of_callers_are_dropped_and_the_real_one_is_passed_on(member: Member) -> None:
    caller = member.session(PATIENT, "patient")
    forged = (("cbmdhi-caller", CLINICIAN.address), ("cbmdhi-caller-role", "administrator"))
    stub = notify_pb2_grpc.InboxServiceStub(caller.channel)

    answer = await stub.List(
        notify_pb2.ListRequest(page_token="7"), metadata=(*forged, *caller.metadata, *forged)
    )

    assert answer.next_page_token == "7"
    assert member.heard.metadata == [
        {
            "cbmdhi-caller": PATIENT.address,
            "cbmdhi-caller-role": "patient",
            "cbmdhi-caller-msp": "MercyMSP",
        }
    ]


async def test_anonymous_calls_carry_no_caller_even_when_one_is_claimed(member: Member) -> None:
    stub = identity_pb2_grpc.SessionServiceStub(member.connect())

    await stub.Challenge(
        identity_pb2.ChallengeRequest(address=ENGINE.address), metadata=(("cbmdhi-caller", ENGINE.address),)
    )

    assert member.heard.metadata == [{}]


async def test_errors_of_services_behind_come_out_whole(member: Member) -> None:
    stub = identity_pb2_grpc.EnrolmentServiceStub(member.connect())

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Enrol(identity_pb2.EnrolRequest(csr_pem="x"))

    err = from_rpc_error(caught.value)
    assert (code_name(err.code), err.reason, err.path, err.retry_after_ms) == (
        "INVALID",
        "not a CSR",
        "csr_pem",
        5,
    )


async def test_first_contact_answers_what_is_needed_before_a_certificate_and_nothing_else(
    member: Member,
) -> None:
    channel = member.connect()
    health = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1

    closed = [
        gateway_pb2_grpc.CommandServiceStub(channel).Submit(gateway_pb2.SubmitRequest()),
        gateway_pb2_grpc.RecordServiceStub(channel).GetBlob(gateway_pb2.GetBlobRequest()),
        identity_pb2_grpc.EnrolmentServiceStub(channel).Invite(identity_pb2.InviteRequest()),
        identity_pb2_grpc.SessionServiceStub(channel).GetTokenKeys(identity_pb2.GetTokenKeysRequest()),
        notify_pb2_grpc.InboxServiceStub(channel).List(notify_pb2.ListRequest()),
        *(call(None) for call in registration_calls(channel).values()),
    ]
    for call in closed:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def registration_calls(channel: grpc.aio.Channel) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    stub = identity_pb2_grpc.RegistrationServiceStub(channel)
    return {
        "reviewers": lambda sent: stub.ListReviewers(identity_pb2.ListReviewersRequest(), metadata=sent),
        "register": lambda sent: stub.Register(identity_pb2.RegisterRequest(), metadata=sent),
        "own": lambda sent: stub.GetOwnIdentity(identity_pb2.GetOwnIdentityRequest(), metadata=sent),
        "any": lambda sent: stub.GetIdentity(identity_pb2.GetIdentityRequest(), metadata=sent),
    }


async def test_who_is_enrolled_and_not_registered_yet_registers_and_asks_how_it_stands_in_its_own_name_alone(
    member: Member,
) -> None:
    newcomer = Person()
    calls = registration_calls(member.connect(newcomer))
    forged = (("cbmdhi-caller", CLINICIAN.address), ("cbmdhi-caller-role", "administrator"))

    for name in ("reviewers", "register", "own"):
        await calls[name](forged)

    assert (
        member.heard.metadata
        == [
            {
                "cbmdhi-caller": newcomer.address,
                "cbmdhi-caller-role": "enrolled",
                "cbmdhi-caller-msp": "MercyMSP",
            }
        ]
        * 3
    )
    assert (await refusal(calls["any"](None)))[0] == "UNAUTHENTICATED"
    caller = member.session(ENGINE)
    await registration_calls(caller.channel)["any"](caller.metadata)
    assert member.heard.metadata[-1]["cbmdhi-caller"] == ENGINE.address


async def test_a_services_certificate_registers_nobody(member: Member) -> None:
    services = member.consortium.tls("storage")
    credentials = grpc.ssl_channel_credentials(
        member.tls_root, services.key_file.read_bytes(), services.certificate_file.read_bytes()
    )
    options = [("grpc.ssl_target_name_override", "gateway.mercy")]
    channel = grpc.aio.secure_channel(member.config.listen_address, credentials, options=options)
    for name, call in registration_calls(channel).items():
        assert (await refusal(call(None)))[0] == "UNAUTHENTICATED", name


async def test_what_the_gateway_offers_is_told_to_who_is_enrolled_and_not_at_first_contact(
    member: Member,
) -> None:
    async def listed(channel: grpc.aio.Channel) -> set[str]:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        return {
            service.name
            async for answer in stub.ServerReflectionInfo(iter([request]))
            for service in answer.list_services_response.service
        }

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(member.connect())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "cbmdhi.gateway.v1.RecordService" in await listed(member.connect(Person()))


async def test_roles_of_the_table_are_asked_for(member: Member) -> None:
    engine, administrator = member.session(ENGINE), member.session(ADMINISTRATOR, "administrator")

    def invite(caller: Caller) -> Awaitable[Any]:
        stub = identity_pb2_grpc.EnrolmentServiceStub(caller.channel)
        return stub.Invite(identity_pb2.InviteRequest(), metadata=caller.metadata)

    assert (await refusal(invite(engine)))[0] == "FORBIDDEN"
    assert (await invite(administrator)).secret == "s"
    audit = records(engine).ListAudit(gateway_pb2.ListAuditRequest(), metadata=engine.metadata)
    assert (await refusal(audit))[0] == "FORBIDDEN"


async def test_token_keys_are_for_services_of_members_alone(member: Member) -> None:
    engine = member.session(ENGINE)
    keys = identity_pb2_grpc.SessionServiceStub(engine.channel).GetTokenKeys
    request = identity_pb2.GetTokenKeysRequest()
    assert (await refusal(keys(request, metadata=engine.metadata)))[0] == "FORBIDDEN"

    tls = member.consortium.tls("notify", "lakeside")
    credentials = grpc.ssl_channel_credentials(
        member.tls_root, tls.key_file.read_bytes(), tls.certificate_file.read_bytes()
    )
    options = [("grpc.ssl_target_name_override", "gateway.mercy")]
    async with grpc.aio.secure_channel(member.config.listen_address, credentials, options=options) as channel:
        answer = await identity_pb2_grpc.SessionServiceStub(channel).GetTokenKeys(request)
        assert "keys" in answer.jwks_json
        # A service is nobody's session.
        submit = gateway_pb2_grpc.CommandServiceStub(channel).Submit(gateway_pb2.SubmitRequest())
        assert (await refusal(submit))[0] == "UNAUTHENTICATED"
        proof = gateway_pb2_grpc.RecordServiceStub(channel).GetProof(
            gateway_pb2.GetProofRequest(command_id=uuid7())
        )
        assert (await refusal(proof))[0] == "UNAUTHENTICATED"


async def test_a_login_is_bound_to_the_certificate_that_the_connection_shows(member: Member) -> None:
    certificate = member.identity_ca.issue(ENGINE)
    other = thumbprint(member.identity_ca.issue(CLINICIAN))

    def request(x5t: str) -> identity_pb2.LoginRequest:
        signed = signature.sign(ENGINE.key, signature.LOGIN, CHALLENGE, x5t.encode())
        return identity_pb2.LoginRequest(
            address=ENGINE.address, challenge=CHALLENGE, signature=signed, certificate_x5t_s256=x5t
        )

    channel = member.connect(ENGINE, certificate=certificate)
    stub = identity_pb2_grpc.SessionServiceStub(channel)
    assert await refusal(stub.Login(request(other))) == ("UNAUTHENTICATED", "certificate_x5t_s256")
    assert not member.heard.requests

    for login in (stub, identity_pb2_grpc.SessionServiceStub(member.connect())):
        token = (await login.Login(request(thumbprint(certificate)))).token
        caller = Caller(channel, token)
        assert await is_served(caller)
