"""Tokens and proofs: what stands for somebody, and what does not."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.domain import dpop, jose
from services.gateway.domain.session import CERTIFICATE, DPOP, check_bound
from services.gateway.rest.used_proofs import UsedProofs
from services.gateway.rpc.routes import ROUTES
from services.gateway.sessions.delegations import Delegations
from services.gateway.sessions.sessions import Sessions
from services.gateway.sessions.token_keys import TokenKeys
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused
from tests.support.fakes.gateway_neighbours import FakeLedger
from tests.support.fakes.gateway_people import Person
from tests.support.fakes.token_service import DpopKey, TokenService, b64
from tests.support.revoking import nobody
from tests.support.waiting import until

URL = "https://gateway.mercy:8443/fhir/Observation/1"


class Desk:
    """Sessions of mercy, with a clock that can be moved."""

    def __init__(self) -> None:
        self.service, self.ledger, self.person = TokenService(), FakeLedger(), Person()
        self.ledger.register(self.person)
        self.ahead = 0.0
        self.revoked: set[tuple[str, str]] = set()
        self.unknown: str | None = None
        self.keys = TokenKeys(self.service.token_keys, lambda: time.monotonic() + self.ahead)
        self.sessions = Sessions(
            self.keys,
            IdentityCache(self.ledger, self.is_revoked, lambda: time.monotonic() + self.ahead),
            own_msp="MercyMSP",
            most=10,
            revocations_problem=lambda msp_id: self.unknown,
            clock=lambda: time.time() + self.ahead,
        )

    def is_revoked(self, msp_id: str, address: str) -> bool:
        return (msp_id, address) in self.revoked

    def token(self, cnf: Any = {CERTIFICATE: "print"}, **changed: Any) -> str:  # noqa: B006
        return self.service.token(self.person.address, cnf, **changed)

    async def refusal(self, token: str) -> MeshError:
        with pytest.raises(MeshError) as caught:
            await self.sessions.of_token(token)
        return caught.value


async def test_a_token_of_the_own_member_stands_for_its_subject() -> None:
    desk = Desk()

    session = await desk.sessions.of_token(desk.token())

    assert (session.address, session.role, session.msp) == (desk.person.address, "engine", "MercyMSP")
    check_bound(session, CERTIFICATE, "print")
    for method, thumbprint in ((CERTIFICATE, "other"), (DPOP, "print")):
        with pytest.raises(Refused) as caught:
            check_bound(session, method, thumbprint)
        assert caught.value.code == code_pb2.CODE_UNAUTHENTICATED


async def test_tokens_that_stand_for_nobody() -> None:
    desk, now = Desk(), int(time.time())
    stranger = TokenService()
    hmac = OctKey.import_key(json.dumps(desk.service.key.as_dict(private=False)))
    claims = {"iss": "MercyMSP", "sub": desk.person.address, "exp": now + 300}
    kid = desk.service.key.thumbprint()
    bad = {
        "another member's": desk.token(iss="LakesideMSP"),
        "expired": desk.token(exp=now - 1),
        "from the future": desk.token(iat=now + 600),
        "bound to nothing": desk.token(cnf=None),
        "bound to two things": desk.token(cnf={CERTIFICATE: "a", DPOP: "b"}),
        "bound to a list": desk.token(cnf=["a"]),
        "without subject": desk.token(sub=None),
        "with no address as subject": desk.token(sub="admin"),
        "with a text as expiry": desk.token(exp="never"),
        "without id": desk.token(jti=None),
        "by a stranger's key": stranger.token(desk.person.address, {CERTIFICATE: "print"}),
        "unsigned": f"{b64(json.dumps({'alg': 'none', 'kid': kid}).encode())}."
        f"{b64(json.dumps(claims).encode())}.",
        "by HMAC with the public key": jwt.encode({"alg": "HS256", "kid": kid}, claims, hmac),
        "cut": desk.token()[:-4],
        "with a list as kid": f"{b64(json.dumps({'alg': 'ES256', 'kid': [kid]}).encode())}.e30.AA",
        "nothing": "",
        "too long": "a" * 10_000,
    }

    for what, token in bad.items():
        assert (await desk.refusal(token)).code == code_pb2.CODE_UNAUTHENTICATED, what


async def test_a_token_brings_its_persons_delegation_to_whichever_gateway_is_called() -> None:
    desk, device = Desk(), Person()
    signed = desk.person.delegate(device.address)
    claim = {"delegation": b64(signed.delegation), "signature": b64(signed.signature)}

    session = await desk.sessions.of_token(desk.token(delegation=claim))

    assert Delegations.of(session) == signed
    assert Delegations.of(await desk.sessions.of_token(desk.token())) is None
    others = Person().delegate(device.address)
    for wrong in (
        {"delegation": b64(others.delegation), "signature": b64(others.signature)},
        {"delegation": b64(b"\xff"), "signature": ""},
        {"delegation": claim["delegation"]},
        {"delegation": 7, "signature": "x"},
        "text",
    ):
        refusal = await desk.refusal(desk.token(delegation=wrong))
        assert refusal.code == code_pb2.CODE_UNAUTHENTICATED


@given(
    st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_\-]{0,20}\.[A-Za-z0-9_\-]{0,20}\.[A-Za-z0-9_\-]{0,20}")
)
def test_any_text_is_refused_in_the_same_way(text: str) -> None:
    with pytest.raises(jose.Malformed):
        jose.payload(text, ECKey.generate_key("P-256"))
    with pytest.raises(Refused):
        dpop.verify(text, method="GET", urls=[URL], token=None, now=0)


@pytest.mark.parametrize("critical", [None, 1, True, 1.5, [[]], [], ["exp"], {}])
def test_an_extension_that_is_called_critical_is_refused_whatever_it_is(critical: object) -> None:
    """RFC 7515, 4.1.11: we understand none."""
    key = ECKey.generate_key("P-256")
    parts = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False), "crit": critical}
    text = ".".join((b64(orjson.dumps(parts)), b64(b"{}"), b64(bytes(64))))
    with pytest.raises(jose.Malformed):
        jose.payload(text, key)
    with pytest.raises(Refused):
        dpop.verify(text, method="GET", urls=[URL], token=None, now=0)


async def test_a_new_key_is_fetched_when_its_first_token_comes_and_strangers_do_not_make_us_fetch() -> None:
    desk = Desk()
    await desk.sessions.of_token(desk.token())
    assert desk.service.fetched == 1
    stranger = TokenService()
    for _ in range(20):
        await desk.refusal(stranger.token(desk.person.address, {CERTIFICATE: "print"}))
    assert desk.service.fetched <= 2

    desk.service.key = ECKey.generate_key("P-256")
    desk.ahead = 2.0

    assert (await desk.sessions.of_token(desk.token())).address == desk.person.address


async def test_while_identity_is_away_known_keys_serve_and_without_any_it_is_unavailable() -> None:
    desk = Desk()
    token_keys = desk.service.token_keys

    async def away() -> str:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")

    desk.keys._fetch = away
    assert (await desk.refusal(desk.token())).code == code_pb2.CODE_UNAVAILABLE

    desk.keys._fetch, desk.ahead = token_keys, 2.0
    await desk.sessions.of_token(desk.token())
    desk.keys._fetch, desk.ahead = away, 400.0
    now = int(time.time()) + 400
    assert await desk.sessions.of_token(desk.token(iat=now, exp=now + 300))


async def test_an_expired_token_is_refused_though_it_was_good_a_moment_ago() -> None:
    desk = Desk()
    token = desk.token()
    session = await desk.sessions.of_token(token)
    desk.ahead = 301.0

    assert (await desk.refusal(token)).code == code_pb2.CODE_UNAUTHENTICATED
    with pytest.raises(MeshError) as caught:
        await desk.sessions.check_active(session)
    assert caught.value.code == code_pb2.CODE_UNAUTHENTICATED


@pytest.mark.parametrize(
    ("role", "reason", "takes_away"),
    [
        (Role.ROLE_PATIENT, "misuse", True),
        (Role.ROLE_PATIENT, "lost-key", False),
        (Role.ROLE_CLINICIAN, "misuse", False),
    ],
)
async def test_a_suspended_patients_session_is_good_for_taking_consent_away_alone(
    role: Role, reason: str, takes_away: bool
) -> None:
    desk = Desk()
    session = await desk.sessions.of_token(desk.token())
    desk.ledger.suspend(desk.person)
    document = desk.ledger.people[desk.person.address]
    document.role, document.suspension.reason_code = role, reason

    with pytest.raises(MeshError) as caught:
        await desk.sessions.check_active(session)
    assert caught.value.code == code_pb2.CODE_INACTIVE_SIGNER
    if takes_away:
        await desk.sessions.check_active(session, or_takes_away=True)
    else:
        with pytest.raises(MeshError):
            await desk.sessions.check_active(session, or_takes_away=True)
    # What is not for taking consent away does not ask for it.
    assert {method.rpartition("/")[2] for method, route in ROUTES.items() if route.takes_away} == {
        "Submit",
        "GetReceipt",
        "ListConsents",
    }


async def test_a_suspended_identity_is_noticed_within_five_seconds() -> None:
    desk = Desk()
    session = await desk.sessions.of_token(desk.token())
    await desk.sessions.check_active(session)
    over = asyncio.create_task(desk.sessions.over(session))
    await asyncio.sleep(0)
    desk.ledger.suspend(desk.person)
    started = time.monotonic()

    reason = await asyncio.wait_for(over, 5)

    assert reason.code == code_pb2.CODE_INACTIVE_SIGNER
    assert time.monotonic() - started < 4.5


async def test_when_the_status_cannot_be_known_an_open_stream_does_not_go_on_for_long() -> None:
    desk = Desk()
    session = await desk.sessions.of_token(desk.token())
    desk.ledger.away = True

    reason = await asyncio.wait_for(desk.sessions.over(session), 8)

    assert reason.code == code_pb2.CODE_UNAVAILABLE


async def test_however_many_streams_are_open_their_callers_are_looked_at_by_one_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateway.sessions.sessions._LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr("services.gateway.sessions.sessions.STATUS_SECONDS", 0.0)
    desk, people = Desk(), [Person() for _ in range(300)]
    desk.ledger.register(*people)
    one = await desk.sessions.of_token(desk.token())
    watched = [
        asyncio.create_task(desk.sessions.over(replace(one, address=person.address))) for person in people
    ]
    await until(lambda: len(desk.ledger.asked_together) >= 3, "they are looked at again and again")
    desk.ledger.suspend(people[7])
    reason = await asyncio.wait_for(watched[7], 5)

    assert reason.code == code_pb2.CODE_INACTIVE_SIGNER
    assert set(desk.ledger.asked_together[:3]) == {300}
    assert sum(task.done() for task in watched) == 1
    for task in watched:
        task.cancel()
    await asyncio.wait(watched)
    await until(lambda: desk.sessions._watch_task is None, "nobody is looked at any more")


async def test_whoever_is_revoked_at_the_ca_is_out_at_once_and_their_open_streams_end() -> None:
    desk = Desk()
    session = await desk.sessions.of_token(desk.token())
    await desk.sessions.check_active(session)
    over = asyncio.create_task(desk.sessions.over(session))

    desk.revoked.add((session.msp, session.address))

    with pytest.raises(MeshError) as caught:
        await desk.sessions.check_active(session)
    assert caught.value.code == code_pb2.CODE_INACTIVE_SIGNER
    assert (await asyncio.wait_for(over, 5)).code == code_pb2.CODE_INACTIVE_SIGNER


async def test_while_it_is_not_known_whom_the_ca_has_revoked_nobody_of_that_member_is_served() -> None:
    desk = Desk()
    session = await desk.sessions.of_token(desk.token())
    desk.unknown = "not known"

    with pytest.raises(MeshError) as caught:
        await desk.sessions.check_active(session)

    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert caught.value.retry_after_ms


async def test_many_at_a_time_ask_the_ledger_once() -> None:
    desk = Desk()
    identities = IdentityCache(desk.ledger, nobody)

    await asyncio.gather(*(identities.get(desk.person.address, 5.0) for _ in range(50)))

    assert len(desk.ledger.asked_for) == 1


def verified(proof: str, token: str | None = "token", method: str = "GET", url: str = URL) -> dpop.Proof:  # noqa: S107
    return dpop.verify(proof, method=method, urls=[url], token=token, now=time.time())


def test_a_proof_is_good_for_its_request_whatever_the_query_and_case_of_the_host() -> None:
    key = DpopKey()

    assert verified(key.proof("GET", URL, "token")).thumbprint == key.thumbprint
    assert verified(key.proof("GET", URL.replace("gateway.mercy", "Gateway.Mercy"), "token"))
    assert verified(key.proof("GET", URL + "?a=b#c", "token"))
    assert verified(key.proof("POST", "https://h/x", None), None, "POST", "https://h:443/x")


def test_proofs_that_prove_nothing() -> None:
    key, now = DpopKey(), int(time.time())
    other = ECKey.generate_key("P-256")
    bad = {
        "another method": key.proof("POST", URL, "token"),
        "another path": key.proof("GET", URL + "2", "token"),
        "another host": key.proof("GET", URL.replace("mercy", "lakeside"), "token"),
        "no URL": key.proof("GET", "http://[", "token"),
        "another token": key.proof("GET", URL, "other"),
        "no token": key.proof("GET", URL, None),
        "old": key.proof("GET", URL, "token", iat=now - 61),
        "from the future": key.proof("GET", URL, "token", iat=now + 62),
        "without time": key.proof("GET", URL, "token", iat=None),
        "with a text as time": key.proof("GET", URL, "token", iat=str(now)),
        "without id": key.proof("GET", URL, "token", jti=None),
        "with an endless id": key.proof("GET", URL, "token", jti="x" * 300),
        "of another type": key.proof("GET", URL, "token", header={"typ": "JWT"}),
        "signed by another key": key.proof("GET", URL, "token", header={"jwk": other.as_dict(private=False)}),
        "with the private key": key.proof("GET", URL, "token", header={"jwk": key.key.as_dict(private=True)}),
        "without key": key.proof("GET", URL, "token", header={"jwk": {}}),
        "another curve": jws.serialize_compact(
            {
                "typ": "dpop+jwt",
                "alg": "ES384",
                "jwk": (p384 := ECKey.generate_key("P-384")).as_dict(private=False),
            },
            b"{}",
            p384,
            algorithms=["ES384"],
        ),
    }

    for what, proof in bad.items():
        with pytest.raises(Refused) as caught:
            verified(proof)
        assert caught.value.code == code_pb2.CODE_UNAUTHENTICATED, what


def test_a_proof_is_good_once_and_a_full_memory_lets_no_old_one_in() -> None:
    now = [0.0]
    used = UsedProofs(2, lambda: now[0])
    used.use("a")
    with pytest.raises(MeshError) as again:
        used.use("a")
    assert again.value.code == code_pb2.CODE_UNAUTHENTICATED
    used.use("b")
    with pytest.raises(MeshError) as full:
        used.use("c")
    assert full.value.code == code_pb2.CODE_RESOURCE_EXHAUSTED

    now[0] = 119.0
    with pytest.raises(MeshError):
        used.use("a")
    now[0] = 122.0
    used.use("c")
