"""To whom the reason of a broken glass is sealed: whoever a member certified, at home and elsewhere."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.client import reviewers
from cbmdhi.client.connection import Connection
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import command, signature
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_blocks import Organisation, issue_certificate

MEMBERS = {msp: Organisation(msp) for msp in ("MercyMSP", "LakesideMSP", "InsurerMSP")}
ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
OFFICER, ADMINISTRATOR = pb.ROLE_PRIVACY_OFFICER, pb.ROLE_ADMINISTRATOR


@dataclass
class Somebody:
    """A registered identity, and the member that certified it."""

    role: pb.Role
    msp: str = "MercyMSP"
    certified_by: str = ""

    def __post_init__(self) -> None:
        signer = command.KeySigner(signature.new_private_key())
        name = pb.Role.Name(self.role).removeprefix("ROLE_").lower()
        certificate = issue_certificate(
            MEMBERS[self.certified_by or self.msp],
            signer.address,
            signer.private_key.public_key(),
            x509.UnrecognizedExtension(ATTRIBUTES, json.dumps({"attrs": {"cbmdhi.role": name}}).encode()),
        )
        body = pb.RegisterIdentity(
            address=signer.address,
            role=self.role,
            home_msp=self.msp,
            signing_public_key=signature.spki(signer.private_key.public_key()),
            enrolment_certificate=certificate.public_bytes(Encoding.DER),
        )
        self.registration = signer.sign_command(command.make(body, channel=CHANNEL))
        self.document = IdentityDocument(
            address=body.address,
            role=body.role,
            home_msp=body.home_msp,
            signing_public_key=body.signing_public_key,
        )

    @property
    def address(self) -> str:
        return self.document.address


class DirectoryGateway:
    """Names reviewers, as it is told to."""

    def __init__(self, *people: Somebody, clinician: str = "cb1clinician") -> None:
        self.people = people
        self.authenticated = grpc.aio.insecure_channel("127.0.0.1:1")
        members = {msp: SimpleNamespace(ca_pem=one.pem) for msp, one in MEMBERS.items()}
        self.wallet = SimpleNamespace(
            member="MercyMSP", address=clinician, consortium=SimpleNamespace(members=members)
        )

    async def enrolled(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        administrators = [one for one in self.people if one.role == ADMINISTRATOR]
        others = [one for one in self.people if one.role != ADMINISTRATOR]
        officers = others if request.of_broken_glass else []
        return identity_pb2.ListReviewersResponse(
            administrators=[one.document for one in administrators],
            privacy_officers=[one.document for one in officers],
            registrations=[one.registration for one in (*administrators, *officers)],
        )


async def chosen(gateway: DirectoryGateway) -> list[str]:
    found = await reviewers.of_broken_glass(cast(Connection, gateway))
    return [one.address for one in found]


def addresses(people: Sequence[Somebody]) -> set[str]:
    return {one.address for one in people}


async def test_officers_and_administrators_of_the_own_member_and_of_others() -> None:
    people = [Somebody(role, msp) for role in (OFFICER, ADMINISTRATOR) for msp in ("MercyMSP", "LakesideMSP")]
    assert set(await chosen(DirectoryGateway(*people))) == addresses(people)


async def test_at_most_sixteen_half_of_them_at_home_and_every_other_member_has_one() -> None:
    home = [Somebody(OFFICER) for _ in range(10)]
    large = [Somebody(ADMINISTRATOR, "LakesideMSP") for _ in range(10)]
    small = [Somebody(ADMINISTRATOR, "InsurerMSP")]
    found = await chosen(DirectoryGateway(*home, *large, *small))
    assert len(found) == 16
    assert len(addresses(home) & set(found)) == 8
    assert addresses(small) <= set(found)


async def test_nobody_is_sealed_to_whom_no_member_certified_and_the_emergency_does_not_wait() -> None:
    good, forged = Somebody(OFFICER), Somebody(OFFICER, certified_by="LakesideMSP")
    other = Somebody(pb.ROLE_CLINICIAN)
    assert await chosen(DirectoryGateway(good, forged, other)) == [good.address]


async def test_a_clinician_does_not_review_their_own_emergency() -> None:
    one, two = Somebody(ADMINISTRATOR), Somebody(ADMINISTRATOR)
    assert await chosen(DirectoryGateway(one, two, clinician=one.address)) == [two.address]


async def test_without_an_officer_at_home_the_emergency_does_not_wait_either() -> None:
    elsewhere = Somebody(OFFICER, "LakesideMSP")
    assert await chosen(DirectoryGateway(elsewhere)) == [elsewhere.address]


async def test_a_gateway_that_names_nobody_is_told_of() -> None:
    with pytest.raises(MeshError) as refused:
        await chosen(DirectoryGateway(Somebody(OFFICER, certified_by="LakesideMSP")))
    assert refused.value.code_name == "INTEGRITY"


async def test_evidence_is_sealed_to_administrators_all_of_them_certified() -> None:
    good, forged = Somebody(ADMINISTRATOR), Somebody(ADMINISTRATOR, certified_by="LakesideMSP")
    found = await reviewers.of_evidence(cast(Connection, DirectoryGateway(good, Somebody(OFFICER))))
    assert addresses([good]) == {one.address for one in found}
    with pytest.raises(MeshError):
        await reviewers.of_evidence(cast(Connection, DirectoryGateway(good, forged)))
