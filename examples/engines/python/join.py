"""From new keys to an active identity: enrolment, registration, the administrators' approval."""

from __future__ import annotations

import time

import grpc
from commands import command
from keys import Refused, write
from receipts import prove
from session import CALL_SECONDS, Engine, detail_of

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc

_POLL_SECONDS = 1


def join(engine: Engine, secret: str) -> None:
    """Enrol by the invitation's secret, register, and wait. Begun again, it goes on where it was."""
    enrol(engine, secret)
    engine.connect()
    if own_status(engine) == state_pb2.IDENTITY_STATUS_UNSPECIFIED:
        register(engine)
    until_active(engine)


# [start:enrol]
def enrol(engine: Engine, secret: str) -> None:
    """Have the member's Fabric CA certify the key. The private key stays here."""
    request = identity_pb2.EnrolRequest(
        csr_pem=engine.keys.certificate_request(), secret=secret, role=command_pb2.ROLE_ENGINE
    )
    stub = identity_pb2_grpc.EnrolmentServiceStub(engine.first_contact)
    given = stub.Enrol(request, timeout=CALL_SECONDS)
    write(engine.state / "certificate.pem", given.certificate_pem.encode())


# [end:enrol]


# [start:register]
def register(engine: Engine) -> None:
    """Ask the consortium for the identity: a command, signed with the key that it registers."""
    body = command_pb2.RegisterIdentity(
        address=engine.keys.address,
        role=command_pb2.ROLE_ENGINE,
        home_msp=engine.member["msp_id"],
        signing_public_key=engine.keys.public_key,
        hpke_public_key=engine.keys.hpke_public,
        enrolment_certificate=engine.certificate(),
    )
    signed = command(engine, command_pb2.CommandBody(register_identity=body))
    stub = identity_pb2_grpc.RegistrationServiceStub(engine.gateway)
    stub.Register(identity_pb2.RegisterRequest(command=signed), timeout=CALL_SECONDS)
    entry, _ = prove(engine, signed)
    if entry.code != code_pb2.CODE_OK:
        raise Refused(f"the registration was refused: {code_pb2.Code.Name(entry.code)} {entry.reason}")
    print("registered", entry.command_id, flush=True)


# [end:register]


# [start:approval]
def until_active(engine: Engine) -> None:
    """Ask how the registration stands. The certificate is enough: no session before it is active."""
    while (status := own_status(engine)) != state_pb2.IDENTITY_STATUS_ACTIVE:
        if status == state_pb2.IDENTITY_STATUS_REJECTED:
            raise Refused("the administrators rejected the registration")
        time.sleep(_POLL_SECONDS)
    print("active", flush=True)


def own_status(engine: Engine) -> state_pb2.IdentityStatus:
    """Unspecified before the gateway's own peer has heard of the registration."""
    stub = identity_pb2_grpc.RegistrationServiceStub(engine.gateway)
    try:
        given = stub.GetOwnIdentity(identity_pb2.GetOwnIdentityRequest(), timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        if detail_of(error).code == code_pb2.CODE_NOT_FOUND:
            return state_pb2.IDENTITY_STATUS_UNSPECIFIED
        raise
    return given.identity.status


# [end:approval]
