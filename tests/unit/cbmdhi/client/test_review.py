"""A reviewer's client opens what it approves, and says in the vote what it saw."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from cbmdhi.client import registration as registrations
from cbmdhi.client.connection import Connection
from cbmdhi.client.registration import Registration
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import cid, command, hpke, signature
from tests.support.fakes.evidence import Committed
from tests.unit.cbmdhi.client.test_reading import consortium_of

PATIENT = "cb1" + "p" * 32
SEEN = {"document": "passport"}


@dataclass
class Reviewer:
    """A connection whose wallet is an administrator's; what the gateway holds as evidence."""

    sealed: bytes = b""
    votes: list[pb.ReviewRegistration] = field(default_factory=list)
    committed: Committed = field(default_factory=Committed)
    keys: tuple[bytes, bytes] = field(default_factory=hpke.generate)
    waiting: Sequence[str] = ()
    authenticated: Any = field(default_factory=lambda: grpc.aio.insecure_channel("127.0.0.1:1"))

    def __post_init__(self) -> None:
        self.signer = self.committed.person("administrator").signer

    @property
    def wallet(self) -> Any:
        return SimpleNamespace(
            address=self.signer.address,
            spki=signature.spki(self.signer.private_key.public_key()),
            hpke_private=self.keys[0],
            consortium=consortium_of(self.committed.network),
            sign_command=self.signer.sign_command,
        )

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, identity_pb2.GetEvidenceRequest):
            if not self.sealed:
                raise MeshError(code_pb2.CODE_NOT_FOUND, "not here")
            return identity_pb2.GetEvidenceResponse(sealed_evidence=self.sealed)
        if isinstance(request, identity_pb2.ListPendingReviewsRequest):
            place = int(request.page_token or 0)
            more = str(place + 1) if place + 1 < len(self.waiting) else ""
            document = IdentityDocument(address=self.waiting[place])
            review = identity_pb2.PendingReview(identity=document)
            return identity_pb2.ListPendingReviewsResponse(reviews=[review], next_page_token=more)
        self.votes.append(command.parse(request.command)[1].review_registration)
        self.committed.enter(request.command)
        return identity_pb2.ReviewResponse(receipt=Receipt(code=code_pb2.CODE_OK))

    async def enrolled(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        return gateway_pb2.GetProofResponse(evidence=self.committed.evidence())

    personal = call

    def sealed_to(self, *hpke_public: tuple[str, bytes]) -> bytes:
        documents = [IdentityDocument(address=name, hpke_public_key=key) for name, key in hpke_public]
        return registrations._seal_evidence(PATIENT, SEEN, documents)

    @property
    def registration(self) -> Registration:
        return Registration(cast(Connection, self))


@pytest.fixture
async def reviewer() -> Reviewer:
    made = Reviewer()
    made.sealed = made.sealed_to((made.signer.address, made.keys[1]))
    return made


def patient(evidence: bytes) -> IdentityDocument:
    return IdentityDocument(address=PATIENT, role=pb.ROLE_PATIENT, evidence_cid=cid.raw(evidence))


async def test_whoever_approves_a_patient_has_opened_the_evidence_and_signs_which(reviewer: Reviewer) -> None:
    identity = patient(reviewer.sealed)
    assert await reviewer.registration.evidence(identity) == SEEN
    await reviewer.registration.review(identity, approve=True)
    assert [vote.evidence_cid for vote in reviewer.votes] == [identity.evidence_cid]


async def test_evidence_that_is_not_there_not_the_patients_or_not_for_us_is_approved_by_nobody(
    reviewer: Reviewer,
) -> None:
    identity = patient(reviewer.sealed)
    other = hpke.generate()[1]
    for held, registered in (
        (b"", identity),
        (reviewer.sealed + b"!", identity),
        (reviewer.sealed_to(("cb1" + "o" * 32, other)), None),
        (reviewer.sealed_to((reviewer.signer.address, other)), None),
    ):
        reviewer.sealed = held
        with pytest.raises(MeshError):
            await reviewer.registration.review(registered or patient(held), approve=True)
    assert not reviewer.votes
    await reviewer.registration.review(identity, approve=False, reason_code="document-mismatch")
    assert [vote.evidence_cid for vote in reviewer.votes] == [""]


async def test_staff_have_no_evidence_to_open(reviewer: Reviewer) -> None:
    clinician = IdentityDocument(address=PATIENT, role=pb.ROLE_CLINICIAN)
    await reviewer.registration.review(clinician, approve=True)
    assert [vote.evidence_cid for vote in reviewer.votes] == [""]


async def test_everything_that_waits_is_listed_over_all_pages(reviewer: Reviewer) -> None:
    reviewer.waiting = [f"patient {number}" for number in range(7)]
    found = await reviewer.registration.pending()
    assert [entry.identity.address for entry in found] == reviewer.waiting
