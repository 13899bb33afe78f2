"""Whom to seal to: reviewers whose keys a member's Fabric CA certified, whatever the gateway says."""

from __future__ import annotations

from cbmdhi.client.connection import Connection
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError, Misuse
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.protocol import broken_glass
from cbmdhi.protocol import registration as registrations
from cbmdhi.protocol.broken_glass import MOST_REVIEWERS

_MOST_AT_HOME = MOST_REVIEWERS // 2


async def of_evidence(connection: Connection) -> list[IdentityDocument]:
    """Every administrator. Raises MeshError INTEGRITY when one is named whom no member certified: what a
    patient seals is sealed once, and to nobody else."""
    listed = await _listed(connection, of_broken_glass=False)
    try:
        for document, signed in zip(listed.administrators, listed.registrations, strict=True):
            _check(connection, document, signed, pb.ROLE_ADMINISTRATOR)
    except (registrations.NotCertified, ValueError) as error:
        raise MeshError(
            code_pb2.CODE_INTEGRITY, f"the gateway named a reviewer whom no member certified: {error}"
        ) from error
    return list(listed.administrators)


async def of_broken_glass(connection: Connection) -> list[IdentityDocument]:
    """At most 16, privacy officers first: half of them of the clinician's own member, the others of the other
    members in turn. Who is not certified is left out, since an emergency does not wait. Raises MeshError
    INTEGRITY when nobody is left.
    """
    listed = await _listed(connection, of_broken_glass=True)
    named = [
        *((document, pb.ROLE_ADMINISTRATOR) for document in listed.administrators),
        *((document, pb.ROLE_PRIVACY_OFFICER) for document in listed.privacy_officers),
    ]
    found: list[IdentityDocument] = []
    for (document, role), signed in zip(named, listed.registrations, strict=False):
        try:
            _check(connection, document, signed, role)
        except registrations.NotCertified:
            continue
        found.append(document)
    wallet = connection.wallet
    found.sort(key=lambda one: (one.role != pb.ROLE_PRIVACY_OFFICER, one.address))
    others = [one for one in found if one.address != wallet.address]
    if not others:
        raise MeshError(
            code_pb2.CODE_INTEGRITY,
            "the gateway named no reviewer to seal the reason to",
        )
    chosen = [one for one in others if one.home_msp == wallet.member][:_MOST_AT_HOME]
    return chosen + _in_turn(others, wallet.member)[: MOST_REVIEWERS - len(chosen)]


def check_reason(reason_code: str) -> None:
    """Raise Misuse for a reason for breaking the glass that is not of the closed list."""
    if reason_code not in broken_glass.REASONS:
        raise Misuse(f"the reason is one of {', '.join(broken_glass.REASONS)}", "reason_code")


def _in_turn(found: list[IdentityDocument], home_msp: str) -> list[IdentityDocument]:
    """Those of the other members, so that each has its first before one has its second."""
    before: dict[str, int] = {}
    turns: list[tuple[int, int, IdentityDocument]] = []
    for place, one in enumerate(found):
        if one.home_msp != home_msp:
            turn = before.get(one.home_msp, 0)
            before[one.home_msp] = turn + 1
            turns.append((turn, place, one))
    return [one for _, _, one in sorted(turns, key=lambda entry: entry[:2])]


async def _listed(connection: Connection, *, of_broken_glass: bool) -> identity_pb2.ListReviewersResponse:
    stub = identity_pb2_grpc.RegistrationServiceStub(connection.authenticated)
    request = identity_pb2.ListReviewersRequest(of_broken_glass=of_broken_glass)
    return await connection.enrolled(stub.ListReviewers, request)


def _check(
    connection: Connection, document: IdentityDocument, signed: pb.SignedCommand, role: pb.Role
) -> None:
    roots = {msp: member.ca_pem for msp, member in connection.wallet.consortium.members.items()}
    registrations.check_role(document, signed, roots)
    if document.role != role:
        raise registrations.NotCertified("a reviewer has another role than was asked for")
