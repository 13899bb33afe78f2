"""Whom the members' CAs have revoked: believed of the CA alone, whoever passes it on."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from cryptography import x509

from cbmdhi.command.v1 import code_pb2
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import certificates, revocation
from cbmdhi.protocol.certificates import Untrusted
from cbmdhi.protocol.revocation import TooLong
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations, follow
from tests.support.fakes.fabric_blocks import Chance, Organisation
from tests.support.fakes.fabric_ca import Root, Wallet
from tests.support.revoking import HOUR, der, revocation_list
from tests.support.waiting import until

MERCY, LAKESIDE = "MercyMSP", "LakesideMSP"


@dataclass
class Hospital:
    """A member's CA."""

    root: Root = field(default_factory=lambda: Root.new("ca of a member"))

    def certify(self, wallet: Wallet):
        return self.root.issue(wallet.address, wallet.key.public_key(), "clinician")

    def list(self, *revoked, **how: Any) -> bytes:
        return revocation_list(self.root.certificate.subject, self.root.key, revoked, **how)


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


async def test_whoever_was_revoked_is_refused_and_nobody_else() -> None:
    members, thief, honest = Consortium(), Wallet(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    await known.offer(MERCY, members.mercy.list(certificate), der(certificate))

    assert refusal(known, MERCY, thief.address) == code_pb2.CODE_INACTIVE_SIGNER
    known.check(MERCY, honest.address)


async def test_with_one_certificate_the_key_is_revoked_and_with_it_the_others_of_that_address() -> None:
    members, thief = Consortium(), Wallet()
    known, first, renewed = members.service(), members.mercy.certify(thief), members.mercy.certify(thief)
    await known.offer(MERCY, members.mercy.list(renewed), der(renewed, first))

    assert known.is_revoked(MERCY, thief.address)


async def test_before_a_list_is_known_and_after_it_has_ended_nobody_of_that_member_is_believed() -> None:
    members, someone = Consortium(), Wallet()
    known = members.service()
    assert refusal(known, MERCY, someone.address) == code_pb2.CODE_UNAVAILABLE

    await known.offer(MERCY, members.mercy.list(), [])
    known.check(MERCY, someone.address)
    assert refusal(known, LAKESIDE, someone.address) == code_pb2.CODE_UNAVAILABLE

    later = members.service(ahead_seconds=7200)
    await later.offer(MERCY, members.mercy.list(good_for=HOUR), [])
    assert refusal(later, MERCY, someone.address) == code_pb2.CODE_UNAVAILABLE


async def test_who_was_revoked_stays_revoked_when_the_list_has_ended() -> None:
    members, thief = Consortium(), Wallet()
    later, certificate = members.service(ahead_seconds=7200), members.mercy.certify(thief)
    await later.offer(MERCY, members.mercy.list(certificate), der(certificate))

    assert refusal(later, MERCY, thief.address) == code_pb2.CODE_INACTIVE_SIGNER


async def test_a_neighbour_cannot_forge_a_list_nor_hide_whom_it_names() -> None:
    members, victim, thief = Consortium(), Wallet(), Wallet()
    known = members.service()
    stolen, forged = members.mercy.certify(thief), members.lakeside.certify(victim)
    for what, msp_id, crl, revoked in (
        ("signed by another member", MERCY, members.lakeside.list(forged), der(forged)),
        ("without the certificate", MERCY, members.mercy.list(stolen), []),
        ("with another's certificate", MERCY, members.mercy.list(stolen), der(forged)),
        ("of nobody", "NowhereMSP", members.mercy.list(), []),
        ("no list at all", MERCY, b"\x30\x00", []),
        ("altered", MERCY, _altered(members.mercy.list()), []),
    ):
        with pytest.raises(Untrusted):
            await known.offer(msp_id, crl, revoked)
        assert known.problem(MERCY), what


async def test_a_members_ca_cannot_revoke_a_person_of_another_member() -> None:
    members, victim = Consortium(), Wallet()
    known, certificate = members.service(), members.lakeside.certify(victim)
    await known.offer(LAKESIDE, members.lakeside.list(certificate), der(certificate))
    await known.offer(MERCY, members.mercy.list(), [])

    known.check(MERCY, victim.address)


async def test_an_older_list_does_not_replace_a_newer_one() -> None:
    members, thief = Consortium(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    before = members.mercy.list(made=datetime.now(UTC) - timedelta(minutes=1))
    await known.offer(MERCY, members.mercy.list(certificate), der(certificate))

    await known.offer(MERCY, before, [])

    assert known.is_revoked(MERCY, thief.address)


async def test_a_list_of_the_future_does_not_hide_who_is_revoked_from_now_on() -> None:
    members, thief = Consortium(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    await known.offer(MERCY, members.mercy.list(), ())
    with pytest.raises(Untrusted):
        await known.offer(MERCY, members.mercy.list(made=datetime.now(UTC) + timedelta(days=365)), ())
    soon = datetime.now(UTC) + timedelta(minutes=1)
    await known.offer(MERCY, members.mercy.list(certificate, made=soon), der(certificate))

    assert known.is_revoked(MERCY, thief.address)


async def test_certificates_travel_once_and_a_newer_list_of_the_same_without_them() -> None:
    members, thief, other = Consortium(), Wallet(), Wallet()
    knows, asks = members.service(), members.service()
    first, second = members.mercy.certify(thief), members.mercy.certify(other)
    await knows.offer(MERCY, members.mercy.list(first), der(first))
    await asks.take(knows.answer(asks.request()).lists)
    assert asks.is_revoked(MERCY, thief.address)

    await knows.offer(MERCY, members.mercy.list(first), [])
    again = knows.answer(asks.request()).lists
    assert [len(one.certificates) for one in again] == [0]
    await asks.take(again)
    assert asks.is_revoked(MERCY, thief.address)

    await knows.offer(MERCY, members.mercy.list(first, second), der(first, second))
    await asks.take(knows.answer(asks.request()).lists)
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


def listed(msp_id: str, crl: bytes, *certificates) -> identity_pb2.RevocationList:
    return identity_pb2.RevocationList(msp_id=msp_id, crl=crl, certificates=der(*certificates))


async def test_a_list_that_is_too_long_is_its_members_trouble_alone_and_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation, "MAX_ENTRIES", 2)
    members, thief, asked = Consortium(), Wallet(), 0
    known, certificate = members.service(), members.mercy.certify(thief)
    many = [members.lakeside.certify(Wallet()) for _ in range(3)]

    async def ask(_: identity_pb2.GetRevocationsRequest) -> identity_pb2.GetRevocationsResponse:
        nonlocal asked
        asked += 1
        lists = [
            listed(LAKESIDE, members.lakeside.list(*many), *many),
            listed(MERCY, members.mercy.list(certificate), certificate),
        ]
        return identity_pb2.GetRevocationsResponse(lists=lists)

    with structlog.testing.capture_logs() as logs:
        following = asyncio.create_task(follow(known, ask, member=MERCY, every_seconds=0.001))
        await until(lambda: asked >= 3, "it was asked again and again")
        following.cancel()

    assert known.is_revoked(MERCY, thief.address)
    assert known.problem(LAKESIDE)
    told = [log["reason"] for log in logs if log["event"] == "revocations.not_heard"]
    assert told == ["LakesideMSP: the revocation list has over 2 entries"]


async def test_certificates_that_are_too_large_are_their_members_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = Consortium()
    known, certificate = members.service(), members.mercy.certify(Wallet())
    monkeypatch.setattr(revocation, "MAX_BYTES", 500)
    with pytest.raises(TooLong):
        await known.offer(MERCY, members.mercy.list(certificate), der(certificate))
    assert known.problem(MERCY)


_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
_SOME = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=True,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)
_ELSEWHERE = x509.CertificateIssuer([x509.DNSName("another.example")])


@pytest.mark.parametrize(
    ("of_the_list", "of_entries"),
    [
        ([(x509.DeltaCRLIndicator(1), True)], []),
        ([(x509.DeltaCRLIndicator(1), False)], []),
        ([(_SOME, True)], []),
        ([(_UNKNOWN, True)], []),
        ([], [(_ELSEWHERE, True)]),
        ([], [(_UNKNOWN, True)]),
    ],
)
async def test_a_part_of_a_list_brings_nobody_back(
    of_the_list: list[tuple[x509.ExtensionType, bool]], of_entries: list[tuple[x509.ExtensionType, bool]]
) -> None:
    members, thief = Consortium(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    other = members.mercy.certify(Wallet())
    await known.offer(MERCY, members.mercy.list(certificate), der(certificate))
    later = datetime.now(UTC) + timedelta(seconds=2)
    part = members.mercy.list(other, made=later, extensions=of_the_list, of_entries=of_entries)
    with pytest.raises(Untrusted):
        await known.offer(MERCY, part, der(other))
    assert known.is_revoked(MERCY, thief.address)


async def test_a_list_that_says_when_and_why_is_a_whole_one() -> None:
    members, thief = Consortium(), Wallet()
    known, certificate = members.service(), members.mercy.certify(thief)
    said: list[tuple[x509.ExtensionType, bool]] = [(x509.CRLNumber(7), False), (_UNKNOWN, False)]
    why: list[tuple[x509.ExtensionType, bool]] = [
        (x509.CRLReason(x509.ReasonFlags.key_compromise), False),
        (x509.InvalidityDate(datetime(2026, 1, 1)), False),  # noqa: DTZ001 - naive, as the library takes it
    ]
    await known.offer(
        MERCY, members.mercy.list(certificate, extensions=said, of_entries=why), der(certificate)
    )
    assert known.is_revoked(MERCY, thief.address)


async def test_a_list_of_the_same_is_too_large_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Consortium()
    known, certificate = members.service(), members.mercy.certify(Wallet())
    first = members.mercy.list(certificate)
    await known.offer(MERCY, first, der(certificate))
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(2_000))
    later = datetime.now(UTC) + timedelta(seconds=2)
    padded = members.mercy.list(certificate, made=later, extensions=[(padding, False)])
    monkeypatch.setattr(revocation, "MAX_BYTES", 2_000)
    with pytest.raises(TooLong):
        await known.offer(MERCY, padded, der(certificate))


async def test_others_are_answered_while_a_long_list_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Consortium()
    known, certificate = members.service(), members.mercy.certify(Wallet())
    begun, may_end = threading.Event(), threading.Event()

    def slowly(*arguments: object, **named: object) -> None:
        begun.set()
        assert may_end.wait(10)

    monkeypatch.setattr(certificates, "check_issued", slowly)
    checking = asyncio.create_task(known.offer(MERCY, members.mercy.list(certificate), der(certificate)))
    await until(begun.is_set, "the list is being checked")
    await known.offer(LAKESIDE, members.lakeside.list(), [])
    assert known.problem(LAKESIDE) is None
    may_end.set()
    await checking


async def test_what_is_known_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Consortium()
    known, first, second = members.service(), *(members.mercy.certify(Wallet()) for _ in range(2))
    await known.offer(MERCY, members.mercy.list(first), der(first))
    seen: list[int] = []
    check = certificates.check_issued
    monkeypatch.setattr(
        certificates,
        "check_issued",
        lambda one, roots: (seen.append(one.serial_number), check(one, roots)),
    )
    await known.offer(MERCY, members.mercy.list(first, second), der(first, second))
    assert seen == [second.serial_number]


async def test_lists_that_do_not_fit_into_one_answer_are_heard_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members, thief, other = Consortium(), Wallet(), Wallet()
    knows, asks = members.service(), members.service()
    ours, theirs = members.mercy.certify(thief), members.lakeside.certify(other)
    monkeypatch.setattr(revocation, "MAX_BYTES", 1_000)
    await knows.offer(MERCY, members.mercy.list(ours), der(ours))
    await knows.offer(LAKESIDE, members.lakeside.list(theirs), der(theirs))
    assert len(knows.answer(asks.request()).lists) == 1

    async def ask(request: identity_pb2.GetRevocationsRequest) -> identity_pb2.GetRevocationsResponse:
        return knows.answer(request)

    following = asyncio.create_task(follow(asks, ask, member=MERCY, every_seconds=3600))
    await until(lambda: not asks.problem(MERCY) and not asks.problem(LAKESIDE), "both were heard")
    following.cancel()
    assert asks.is_revoked(MERCY, thief.address)
    assert asks.is_revoked(LAKESIDE, other.address)


def test_a_list_that_was_changed_anywhere_is_no_list() -> None:
    hospital = Hospital()
    certificate = hospital.certify(Wallet())
    crl = hospital.list(certificate, extensions=[(x509.CRLNumber(7), False)])
    # The last bytes are the signature's, of which a byte says how many bits count.
    for at in range(len(crl) - 80):
        changed = crl[:at] + bytes((crl[at] ^ 1,)) + crl[at + 1 :]
        with pytest.raises(Untrusted):
            revocation.verify(changed, der(certificate), hospital.root.pem)


def test_a_certificate_of_a_version_that_nobody_knows_says_nothing_of_who_is_revoked() -> None:
    hospital = Hospital()
    certificate = hospital.certify(Wallet())
    (known,) = der(certificate)
    unknown = known.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x08", 1)
    with pytest.raises(Untrusted):
        revocation.verify(hospital.list(certificate), [unknown], hospital.root.pem)


def test_a_list_may_be_as_long_and_as_large_as_the_limits_say(monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = Hospital()
    two = [hospital.certify(Wallet()) for _ in range(2)]
    crl = hospital.list(*two)
    size = len(crl) + sum(map(len, der(*two)))
    for entries, most_bytes in ((2, size), (1, size), (2, size - 1)):
        monkeypatch.setattr(revocation, "MAX_ENTRIES", entries)
        monkeypatch.setattr(revocation, "MAX_BYTES", most_bytes)
        if (entries, most_bytes) == (2, size):
            assert len(revocation.verify(crl, der(*two), hospital.root.pem).certificates) == 2
            continue
        with pytest.raises(TooLong):
            revocation.verify(crl, der(*two), hospital.root.pem)


def test_a_newer_list_of_the_same_has_the_certificates_of_the_one_before() -> None:
    hospital = Hospital()
    thief, other = Wallet(), Wallet()
    one, two = hospital.certify(thief), hospital.certify(other)
    first = revocation.verify(hospital.list(one), der(one, two), hospital.root.pem)
    again = revocation.verify(hospital.list(one), (), hospital.root.pem, first)
    both = revocation.verify(hospital.list(two, one), der(two, one), hospital.root.pem)

    assert again.certificates == first.certificates == tuple(der(one))
    assert again.addresses == first.addresses == {thief.address}
    assert first.digest == again.digest != both.digest
    assert both.digest == revocation.verify(hospital.list(one, two), der(one, two), hospital.root.pem).digest


def test_a_certificate_of_another_ca_is_not_taken_for_one_of_the_same_number() -> None:
    """Else whoever passes a list on could have anybody revoked."""

    class Seven(Chance):
        def serial(self) -> int:
            return 7

    mercy, forger = Organisation("MercyMSP", Seven()), Organisation("MercyMSP", Seven())
    revoked, forged = (certificates.parse_pem(one.issue("client").pem) for one in (mercy, forger))
    crl = revocation_list(mercy.root.subject, mercy.key, [revoked])
    assert revocation.verify(crl, der(revoked), mercy.pem).serials == {7}
    with pytest.raises(Untrusted):
        revocation.verify(crl, der(forged), mercy.pem)
    with pytest.raises(Untrusted):
        revocation.verify(crl, der(revoked), forger.pem)


def _altered(crl: bytes) -> bytes:
    return crl[:-1] + bytes((crl[-1] ^ 1,))
