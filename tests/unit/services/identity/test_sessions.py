"""Login: a challenge is good once, and a token is worth something to the key that logged in alone."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Delegation, Role, SignedDelegation
from cbmdhi.command.v1.state_pb2 import Suspension
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import signature
from tests.support.fakes.fabric_ca import Wallet
from tests.support.fakes.identity_member import (
    CHANNEL,
    LAKESIDE,
    MERCY,
    PENDING,
    SUSPENDED,
    Member,
    refused,
)


def thumbprint(of: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(of).digest()).rstrip(b"=").decode()


JKT, X5T = thumbprint(b"dpop key"), thumbprint(b"client certificate")


async def challenge_for(member: Member, wallet: Wallet) -> bytes:
    request = identity_pb2.ChallengeRequest(address=wallet.address)
    return (await member.session.Challenge(request, member.by())).challenge


def login(wallet: Wallet, challenge: bytes, *, jkt: str = JKT, x5t: str = "", key: Wallet | None = None):
    signed = signature.sign((key or wallet).key, signature.LOGIN, challenge, (jkt or x5t).encode())
    return identity_pb2.LoginRequest(
        address=wallet.address,
        challenge=challenge,
        signature=signed,
        dpop_jkt=jkt,
        certificate_x5t_s256=x5t,
    )


def claims_of(member: Member, token: str) -> dict[str, object]:
    keys = KeySet.import_key_set(json.loads(member.signer.jwks_json))
    return jwt.decode(token, keys, algorithms=["ES256"]).claims


@pytest.fixture
def member() -> Member:
    return Member()


@pytest.fixture
def clinician(member: Member) -> Wallet:
    wallet = Wallet()
    member.ledger.put(wallet, Role.ROLE_CLINICIAN, home=LAKESIDE)
    return wallet


async def test_a_challenge_says_until_when_for_which_channel_and_which_device(
    member: Member, clinician: Wallet
) -> None:
    request = identity_pb2.ChallengeRequest(address=clinician.address)
    answer = await member.session.Challenge(request, member.by())
    assert len(answer.challenge) == 32
    assert answer.expires_at_ms == member.clock.now_ms + 60_000
    assert (answer.device, answer.channel) == (member.device.address, CHANNEL.name)


async def test_a_token_is_bound_to_the_dpop_key_that_was_signed_for(
    member: Member, clinician: Wallet
) -> None:
    request = login(clinician, await challenge_for(member, clinician))
    answer = await member.session.Login(request, member.by())
    claims = claims_of(member, answer.token)
    now = member.clock.now_ms // 1000
    assert claims.pop("jti")
    assert claims == {
        "iss": MERCY,
        "sub": clinician.address,
        "role": "clinician",
        "msp": LAKESIDE,
        "cnf": {"jkt": JKT},
        "iat": now,
        "exp": now + 300,
    }
    assert answer.expires_at_ms == (now + 300) * 1000
    # Whose clock differs from the member's renews by this.
    assert answer.expires_in_seconds == 300


async def test_a_token_for_grpc_is_bound_to_the_client_certificate(member: Member, clinician: Wallet) -> None:
    request = login(clinician, await challenge_for(member, clinician), jkt="", x5t=X5T)
    answer = await member.session.Login(request, member.by())
    assert claims_of(member, answer.token)["cnf"] == {"x5t#S256": X5T}


async def test_a_captured_login_cannot_be_turned_to_another_key(member: Member, clinician: Wallet) -> None:
    request = login(clinician, await challenge_for(member, clinician))
    request.dpop_jkt = thumbprint(b"the thief's key")
    error = await refused(member.session.Login(request, member.by()))
    assert error.code == code_pb2.CODE_UNAUTHENTICATED


async def test_a_challenge_is_good_once(member: Member, clinician: Wallet) -> None:
    request = login(clinician, await challenge_for(member, clinician))
    await member.session.Login(request, member.by())
    error = await refused(member.session.Login(request, member.by()))
    assert (error.code, error.path) == (code_pb2.CODE_UNAUTHENTICATED, "challenge")


async def test_a_wrong_signature_does_not_spend_the_challenge_of_its_owner(
    member: Member, clinician: Wallet
) -> None:
    challenge = await challenge_for(member, clinician)
    await refused(member.session.Login(login(clinician, challenge, key=Wallet()), member.by()))
    assert (await member.session.Login(login(clinician, challenge), member.by())).token


async def test_a_challenge_is_past_after_a_minute(member: Member, clinician: Wallet) -> None:
    challenge = await challenge_for(member, clinician)
    member.clock.now_ms += 59_999
    assert (await member.session.Login(login(clinician, challenge), member.by())).token

    challenge = await challenge_for(member, clinician)
    member.clock.now_ms += 60_000
    error = await refused(member.session.Login(login(clinician, challenge), member.by()))
    assert error.code == code_pb2.CODE_UNAUTHENTICATED


async def test_a_challenge_given_to_one_address_does_not_serve_another(
    member: Member, clinician: Wallet
) -> None:
    challenge = await challenge_for(member, Wallet())
    error = await refused(member.session.Login(login(clinician, challenge), member.by()))
    assert (error.code, error.path) == (code_pb2.CODE_UNAUTHENTICATED, "challenge")


async def test_a_challenge_that_nobody_gave_is_refused(member: Member, clinician: Wallet) -> None:
    error = await refused(member.session.Login(login(clinician, bytes(32)), member.by()))
    assert error.code == code_pb2.CODE_UNAUTHENTICATED


async def test_an_identity_has_so_many_logins_a_minute_and_nobody_else_uses_them_up(
    clinician: Wallet, member: Member
) -> None:
    small = Member(at_once=2)
    small.ledger.documents = member.ledger.documents
    for _ in range(5):
        forged = login(clinician, await challenge_for(small, clinician), key=Wallet())
        error = await refused(small.session.Login(forged, small.by()))
        assert error.code == code_pb2.CODE_UNAUTHENTICATED
    for _ in range(2):
        await small.session.Login(login(clinician, await challenge_for(small, clinician)), small.by())
    third = login(clinician, await challenge_for(small, clinician))
    error = await refused(small.session.Login(third, small.by()))
    assert (error.code, error.retry_after_ms > 0) == (code_pb2.CODE_RESOURCE_EXHAUSTED, True)


def delegation_of(wallet: Wallet, **changes: object) -> SignedDelegation:
    delegation = Delegation(delegator=wallet.address, delegate="cb1device", channel="cbmdhi")
    for name, value in changes.items():
        setattr(delegation, name, value)
    raw = delegation.SerializeToString()
    return SignedDelegation(delegation=raw, signature=signature.sign(wallet.key, signature.DELEGATION, raw))


async def test_a_delegation_goes_into_the_token_of_who_signed_it(member: Member, clinician: Wallet) -> None:
    signed = delegation_of(clinician)
    request = login(clinician, await challenge_for(member, clinician))
    request.delegation.CopyFrom(signed)
    answer = await member.session.Login(request, member.by())
    claim = claims_of(member, answer.token)["delegation"]
    assert isinstance(claim, dict)
    assert base64.urlsafe_b64decode(claim["delegation"] + "==") == signed.delegation
    assert base64.urlsafe_b64decode(claim["signature"] + "==") == signed.signature
    assert len(answer.token) < 2_000
    plain = login(clinician, await challenge_for(member, clinician))
    assert "delegation" not in claims_of(member, (await member.session.Login(plain, member.by())).token)


async def test_a_delegation_that_is_not_the_callers_gets_no_token(member: Member, clinician: Wallet) -> None:
    forged = delegation_of(clinician)
    forged.signature = delegation_of(Wallet()).signature
    bad = (
        (delegation_of(Wallet()), {}, code_pb2.CODE_FORBIDDEN),
        (forged, {}, code_pb2.CODE_UNAUTHENTICATED),
        (SignedDelegation(delegation=b"\xff\xff"), {}, code_pb2.CODE_INVALID),
        (delegation_of(clinician, channel="x" * 4_000), {}, code_pb2.CODE_INVALID),
        (delegation_of(clinician), {"jkt": "", "x5t": X5T}, code_pb2.CODE_INVALID),
    )
    for signed, binding, code in bad:
        request = login(clinician, await challenge_for(member, clinician), **binding)
        request.delegation.CopyFrom(signed)
        assert (await refused(member.session.Login(request, member.by()))).code == code


async def test_another_replica_takes_the_challenge_that_this_one_gave(member: Member) -> None:
    from services.identity.domain.challenge import Challenges

    one, other = (Challenges(member.signer.challenge_key, 10) for _ in range(2))
    other.spend(one.give("cb1" + "a" * 32, bytes(10), 1000).value, "cb1" + "a" * 32, 2000)


async def test_a_suspended_or_waiting_identity_gets_no_token(member: Member) -> None:
    for status in (SUSPENDED, PENDING):
        wallet = Wallet()
        member.ledger.put(wallet, Role.ROLE_CLINICIAN, status)
        challenge = await challenge_for(member, wallet)
        error = await refused(member.session.Login(login(wallet, challenge), member.by()))
        assert error.code == code_pb2.CODE_INACTIVE_SIGNER


async def test_a_suspended_patient_gets_a_token_to_take_consent_away_with_unless_the_key_was_lost(
    member: Member,
) -> None:
    for reason, admitted in (("misuse", True), ("lost-key", False)):
        wallet = Wallet()
        why = Suspension(reason_code=reason)
        member.ledger.put(wallet, Role.ROLE_PATIENT, SUSPENDED, suspension=why)
        request = login(wallet, await challenge_for(member, wallet))
        if admitted:
            assert (await member.session.Login(request, member.by())).token
        else:
            error = await refused(member.session.Login(request, member.by()))
            assert error.code == code_pb2.CODE_INACTIVE_SIGNER


async def test_who_does_not_hold_the_key_learns_nothing_about_the_address(
    member: Member, clinician: Wallet
) -> None:
    suspended, unknown, thief = Wallet(), Wallet(), Wallet()
    member.ledger.put(suspended, Role.ROLE_PATIENT, SUSPENDED)
    answers = []
    for wallet in (clinician, suspended, unknown):
        challenge = await challenge_for(member, wallet)
        answers.append(
            (await refused(member.session.Login(login(wallet, challenge, key=thief), member.by()))).args
        )
    assert answers[0][0] == code_pb2.CODE_UNAUTHENTICATED
    assert answers.count(answers[0]) == len(answers)


async def test_an_unregistered_key_gets_no_token(member: Member) -> None:
    nobody = Wallet()
    request = login(nobody, await challenge_for(member, nobody))
    assert (await refused(member.session.Login(request, member.by()))).code == code_pb2.CODE_UNAUTHENTICATED


@pytest.mark.parametrize(
    ("jkt", "x5t"), [("", ""), (JKT, X5T), ("short", ""), ("", JKT[:-1] + "!"), (JKT[:-1] + "z", "")]
)
async def test_a_token_is_bound_to_exactly_one_well_formed_thumbprint(
    member: Member, clinician: Wallet, jkt: str, x5t: str
) -> None:
    request = login(clinician, await challenge_for(member, clinician), jkt=jkt, x5t=x5t)
    assert (await refused(member.session.Login(request, member.by()))).code == code_pb2.CODE_INVALID


async def test_too_many_logins_of_a_minute_are_told_when_to_come_back() -> None:
    member = Member(used_challenges=1)
    wallet = Wallet()
    member.ledger.put(wallet, Role.ROLE_PATIENT)
    await member.session.Login(login(wallet, await challenge_for(member, wallet)), member.by())

    second = login(wallet, await challenge_for(member, wallet))
    error = await refused(member.session.Login(second, member.by()))

    assert error.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    member.clock.now_ms += error.retry_after_ms
    again = login(wallet, await challenge_for(member, wallet))
    assert (await member.session.Login(again, member.by())).token


async def test_a_malformed_address_gets_no_challenge(member: Member) -> None:
    request = identity_pb2.ChallengeRequest(address="Jane Doe")
    error = await refused(member.session.Challenge(request, member.by()))
    assert error.code == code_pb2.CODE_INVALID
    assert "Jane" not in str(error)


async def test_the_keys_of_tokens_are_public_and_for_services_of_all_members(member: Member) -> None:
    request = identity_pb2.GetTokenKeysRequest()
    for msp, service in ((MERCY, "gateway"), (LAKESIDE, "gateway"), (LAKESIDE, "storage"), (MERCY, "ledger")):
        answer = await member.session.GetTokenKeys(request, member.by(msp=msp, service=service))
        (key,) = json.loads(answer.jwks_json)["keys"]
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    error = await refused(member.session.GetTokenKeys(request, member.by(service="identity")))
    assert error.code == code_pb2.CODE_FORBIDDEN


async def test_only_the_own_gateway_may_log_people_in(member: Member, clinician: Wallet) -> None:
    request = login(clinician, await challenge_for(member, clinician))
    for msp, service in ((LAKESIDE, "gateway"), (MERCY, "storage")):
        error = await refused(member.session.Login(request, member.by(msp=msp, service=service)))
        assert error.code == code_pb2.CODE_FORBIDDEN
