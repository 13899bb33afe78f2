"""What the channel would not accept is refused before anything of it is stored, with its place."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import cid
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.state_keys import sealed_record_key_name
from services.identity.domain import registration
from services.identity.domain.registration import ChannelTrust, Registration, SealedKey
from services.runtime.refusal import Refused
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_ca import Root, Wallet

MERCY = "MercyMSP"
ROOT, WALLET = Root.new("the CA of mercy"), Wallet()
TRUST = ChannelTrust(CHANNEL, {MERCY: ROOT.pem})
EVIDENCE, SEALED = b"a passport, sealed", b"a key, sealed"
KEYS = [SealedKey(MERCY, sealed_record_key_name(WALLET.address), SEALED)]


def of(role: str, **changes: Any) -> Registration:
    said: dict[str, Any] = {
        "signer": WALLET.address,
        "channel": CHANNEL.name,
        "genesis_sha256": CHANNEL.genesis_sha256,
        "address": WALLET.address,
        "role": role,
        "home_msp": MERCY,
        "signing_public_key": WALLET.spki,
        "enrolment_certificate": ROOT.issue(WALLET.address, WALLET.key.public_key(), role).public_bytes(
            Encoding.DER
        ),
        "custodians": (),
        "evidence_cid": "",
    }
    return Registration(**{**said, **changes})


def patient(**changes: Any) -> Registration:
    custodians = [(MERCY, hashlib.sha256(SEALED).digest())]
    return of("patient", **{"custodians": custodians, "evidence_cid": cid.raw(EVIDENCE), **changes})


def refusal(
    one: Registration, evidence: bytes = b"", keys: list[SealedKey] | None = None, trust: ChannelTrust = TRUST
) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        registration.check(one, evidence, keys or [], trust)
    assert caught.value.reason
    return caught.value.code, caught.value.path


def test_a_patient_and_a_clinician_are_let_through_as_they_should_be() -> None:
    registration.check(patient(), EVIDENCE, KEYS, TRUST)
    registration.check(of("clinician"), b"", [], TRUST)


def test_what_is_for_patients_alone_is_refused_of_anybody_else_each_by_itself() -> None:
    wanted = (code_pb2.CODE_INVALID, "body.register_identity.role")
    assert refusal(of("clinician", custodians=[(MERCY, b"")])) == wanted
    assert refusal(of("clinician", evidence_cid=cid.raw(EVIDENCE))) == wanted
    assert refusal(of("clinician"), evidence=EVIDENCE) == wanted
    assert refusal(of("clinician"), keys=KEYS) == wanted


@pytest.mark.parametrize(
    ("channel", "path"),
    [
        (Channel("another", CHANNEL.genesis_sha256), "channel"),
        (Channel(CHANNEL.name, bytes(32)), "genesis_sha256"),
    ],
)
def test_a_registration_for_another_channel_says_by_what_it_is_another(channel: Channel, path: str) -> None:
    wanted = (code_pb2.CODE_WRONG_CHANNEL, path)
    assert refusal(of("clinician"), trust=replace(TRUST, channel=channel)) == wanted


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"signing_public_key": b"none"}, "body.register_identity.signing_public_key"),
        ({"address": Wallet().address}, "body.register_identity.address"),
        ({"signer": Wallet().address}, "signer"),
        ({"home_msp": "NowhereMSP"}, "body.register_identity.home_msp"),
        ({"enrolment_certificate": b"none"}, "body.register_identity.enrolment_certificate"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_stands(changes: dict[str, Any], path: str) -> None:
    assert refusal(of("clinician", **changes)) == (code_pb2.CODE_INVALID, path)


def test_custodians_and_their_keys_are_one_for_one() -> None:
    digest = hashlib.sha256(SEALED).digest()
    twice = [(MERCY, digest), (MERCY, digest)]
    assert refusal(patient(custodians=twice), EVIDENCE, KEYS) == (
        code_pb2.CODE_INVALID,
        "body.register_identity.custodians",
    )
    wrong = [
        [],
        [*KEYS, *KEYS],
        [replace(KEYS[0], msp="LakesideMSP")],
        [replace(KEYS[0], sealed=b"another")],
        [replace(KEYS[0], key="elsewhere")],
    ]
    for keys in wrong:
        assert refusal(patient(), EVIDENCE, keys) == (code_pb2.CODE_INVALID, "sealed_keys")


def test_evidence_may_be_as_large_as_the_limit_and_no_larger() -> None:
    largest = bytes(registration.MAX_EVIDENCE_BYTES)
    registration.check(patient(evidence_cid=cid.raw(largest)), largest, KEYS, TRUST)
    assert refusal(patient(), largest + b"x", KEYS) == (code_pb2.CODE_TOO_LARGE, "sealed_evidence")
    assert refusal(patient(), b"", KEYS) == (code_pb2.CODE_INVALID, "sealed_evidence")
    assert refusal(patient(), b"another", KEYS) == (
        code_pb2.CODE_INVALID,
        "body.register_identity.evidence_cid",
    )
