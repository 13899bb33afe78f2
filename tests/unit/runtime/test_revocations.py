"""Whom the members' CAs have revoked: believed of the CA alone, whoever passes it on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol.certificates import Untrusted
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations, follow
from tests.support.revoking import HOUR, der, revocation_list
from tests.support.waiting import until
from tests.unit.identity.authority import Root, Wallet

MERCY, LAKESIDE = "MercyMSP", "LakesideMSP"


@dataclass
class Hospital:
    """A member's CA."""

    root: Root = field(default_factory=lambda: Root.new("ca of a member"))

    def certify(self, wallet: Wallet):
        return self.root.issue(wallet.address, wallet.key.public_key(), "clinician")

    def list(self, *revoked, made: datetime | None = None, good_for: timedelta = HOUR) -> bytes:
        return revocation_list(
            self.root.certificate.subject, self.root.key, revoked, made=made, good_for=good_for
        )


@dataclass
class Consortium:
    mercy: Hospital = field(default_factory=Hospital)
    lakeside: Hospital = field(default_factory=Hospital)

    def service(self, ahead_seconds: float = 0) -> Revocations:
        roots = {MERCY: self.mercy.root.pem, LAKESIDE: self.lakeside.root.pem}
        return Revocations(roots, lambda: time.time() + ahead_seconds)


def refusal(revocations: Revocations, msp_id: str, address: str) -> int:
    with pytest.raises(MeshError) as caught:
        revocations.check(msp_id, address)
    return caught.value.code


def test_whoever_was_revoked_is_refused_and_nobody_else() -> None:
    members, thief, honest = Consortium(), Wallet(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    known.offer(MERCY, members.mercy.list(certificate), der(certificate))

    assert refusal(known, MERCY, thief.address) == code_pb2.CODE_INACTIVE_SIGNER
    known.check(MERCY, honest.address)


def test_with_one_certificate_the_key_is_revoked_and_with_it_the_others_of_that_address() -> None:
    members, thief = Consortium(), Wallet()
    known, first, renewed = members.service(), members.mercy.certify(thief), members.mercy.certify(thief)
    known.offer(MERCY, members.mercy.list(renewed), der(renewed, first))

    assert known.is_revoked(MERCY, thief.address)


def test_before_a_list_is_known_and_after_it_has_ended_nobody_of_that_member_is_believed() -> None:
    members, someone = Consortium(), Wallet()
    known = members.service()
    assert refusal(known, MERCY, someone.address) == code_pb2.CODE_UNAVAILABLE

    known.offer(MERCY, members.mercy.list(), [])
    known.check(MERCY, someone.address)
    assert refusal(known, LAKESIDE, someone.address) == code_pb2.CODE_UNAVAILABLE

    later = members.service(ahead_seconds=7200)
    later.offer(MERCY, members.mercy.list(good_for=HOUR), [])
    assert refusal(later, MERCY, someone.address) == code_pb2.CODE_UNAVAILABLE


def test_who_was_revoked_stays_revoked_when_the_list_has_ended() -> None:
    members, thief = Consortium(), Wallet()
    later, certificate = members.service(ahead_seconds=7200), members.mercy.certify(thief)
    later.offer(MERCY, members.mercy.list(certificate), der(certificate))

    assert refusal(later, MERCY, thief.address) == code_pb2.CODE_INACTIVE_SIGNER


def test_a_neighbour_cannot_forge_a_list_nor_hide_whom_it_names() -> None:
    members, victim, thief = Consortium(), Wallet(), Wallet()
    known = members.service()
    stolen, forged = members.mercy.certify(thief), members.lakeside.certify(victim)
    for what, msp_id, crl, certificates in (
        ("signed by another member", MERCY, members.lakeside.list(forged), der(forged)),
        ("without the certificate", MERCY, members.mercy.list(stolen), []),
        ("with another's certificate", MERCY, members.mercy.list(stolen), der(forged)),
        ("of nobody", "NowhereMSP", members.mercy.list(), []),
        ("no list at all", MERCY, b"\x30\x00", []),
        ("altered", MERCY, members.mercy.list()[:-1] + b"\x00", []),
    ):
        with pytest.raises(Untrusted):
            known.offer(msp_id, crl, certificates)
        assert known.problem(MERCY), what


def test_a_members_ca_cannot_revoke_a_person_of_another_member() -> None:
    members, victim = Consortium(), Wallet()
    known, certificate = members.service(), members.lakeside.certify(victim)
    known.offer(LAKESIDE, members.lakeside.list(certificate), der(certificate))
    known.offer(MERCY, members.mercy.list(), [])

    known.check(MERCY, victim.address)


def test_an_older_list_does_not_replace_a_newer_one() -> None:
    members, thief = Consortium(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    before = members.mercy.list(made=datetime.now(UTC) - timedelta(minutes=1))
    known.offer(MERCY, members.mercy.list(certificate), der(certificate))

    known.offer(MERCY, before, [])

    assert known.is_revoked(MERCY, thief.address)


def test_certificates_travel_once_and_a_newer_list_of_the_same_without_them() -> None:
    members, thief, other = Consortium(), Wallet(), Wallet()
    knows, asks = members.service(), members.service()
    first, second = members.mercy.certify(thief), members.mercy.certify(other)
    knows.offer(MERCY, members.mercy.list(first), der(first))
    asks.take(knows.answer(asks.request()).lists)
    assert asks.is_revoked(MERCY, thief.address)

    knows.offer(MERCY, members.mercy.list(first), [])
    again = knows.answer(asks.request()).lists
    assert [len(one.certificates) for one in again] == [0]
    asks.take(again)
    assert asks.is_revoked(MERCY, thief.address)

    knows.offer(MERCY, members.mercy.list(first, second), der(first, second))
    asks.take(knows.answer(asks.request()).lists)
    assert asks.is_revoked(MERCY, other.address)


async def test_a_neighbour_that_is_away_or_lies_is_asked_again_and_what_was_known_stays() -> None:
    members, thief = Consortium(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    answers: list[object] = [
        [identity_pb2.RevocationList(msp_id=MERCY, crl=b"nonsense")],
        MeshError(code_pb2.CODE_UNAVAILABLE, "away"),
        [
            identity_pb2.RevocationList(
                msp_id=MERCY, crl=members.mercy.list(certificate), certificates=der(certificate)
            )
        ],
        MeshError(code_pb2.CODE_UNAVAILABLE, "away"),
    ]

    async def ask(_: identity_pb2.GetRevocationsRequest) -> identity_pb2.GetRevocationsResponse:
        answer = answers.pop(0)
        if isinstance(answer, MeshError):
            raise answer
        return identity_pb2.GetRevocationsResponse(lists=answer)

    following = asyncio.create_task(follow(known, ask, member=MERCY, every_seconds=0.001))
    await until(lambda: not answers, "every answer was given")
    following.cancel()

    assert known.is_revoked(MERCY, thief.address)
