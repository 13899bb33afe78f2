"""An application that speaks HTTPS with the gateway, as tests use it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role, SignedDelegation
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import signature
from cbmdhi.protocol.ids import uuid7
from tests.contract.gateway_member import Member, running_member
from tests.support.fakes.gateway_backends import CHALLENGE
from tests.support.fakes.gateway_people import Person, Put, an_observation, checker, put
from tests.support.fakes.token_service import DpopKey, b64
from tests.support.waiting import until

ENGINE, CLINICIAN = Person(), Person(role=Role.ROLE_CLINICIAN)
PATIENT = Person(role=Role.ROLE_PATIENT)


@dataclass
class App:
    """A clinician's application: an HTTPS client with a DPoP key."""

    member: Member
    http: aiohttp.ClientSession
    key: DpopKey
    token: str = ""
    origin: str = ""
    """As which the application knows the server, when that is another address than the one it connects to."""

    at: str = ""
    """Which gateway it connects to, when there are several."""

    @property
    def base(self) -> str:
        return f"https://{self.at or self.member.config.rest_address}"

    async def get(self, path: str, *, proof: str | None = None, **headers: str) -> tuple[int, Any, Any]:
        url = self.base + path
        proof = proof or self.key.proof("GET", (self.origin or self.base) + path, self.token)
        sent = {"Authorization": f"DPoP {self.token}", "DPoP": proof, **headers}
        async with self.http.get(url, headers=sent) as answer:
            return answer.status, await answer.read(), answer.headers

    async def send(
        self, method: str, path: str, body: bytes | dict[str, Any], **headers: str
    ) -> tuple[int, bytes, Any]:
        """A write of a resource, with a proof."""
        url = self.base + path
        sent = {
            "Authorization": f"DPoP {self.token}",
            "DPoP": self.key.proof(method, (self.origin or self.base) + path, self.token),
            "Content-Type": "application/fhir+json",
            **headers,
        }
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.http.request(method, url, data=raw, headers=sent) as answer:
            return answer.status, await answer.read(), answer.headers

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.http.post(self.base + path, data=raw, headers=headers) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def login(
        self, delegation: SignedDelegation | None = None, person: Person = CLINICIAN
    ) -> tuple[int, Any]:
        body: dict[str, Any] = {
            "address": person.address,
            "challenge": b64(CHALLENGE),
            "signature": b64(
                signature.sign(person.key, signature.LOGIN, CHALLENGE, self.key.thumbprint.encode())
            ),
            "dpop_jkt": self.key.thumbprint,
        }
        if delegation is not None:
            body["delegation"] = {
                "delegation": b64(delegation.delegation),
                "signature": b64(delegation.signature),
            }
        status, answer = await self.post("/v1/session", body)
        self.token = answer.get("token", "")
        return status, answer


@asynccontextmanager
async def running_app(folder: Path, **settings: Any) -> AsyncIterator[App]:
    """An application of a member's whose gateway is set up so."""
    async with running_member(folder, **settings) as member:
        member.ledger.register(ENGINE, CLINICIAN, PATIENT)
        context = ssl.create_default_context(cadata=member.tls_root.decode())
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            yield App(member, http, DpopKey())


async def written(app: App, **changed: Any) -> Put:
    one = put(ENGINE, PATIENT, **changed)
    engine = app.member.session(ENGINE)
    stub = gateway_pb2_grpc.CommandServiceStub(engine.channel)
    request = gateway_pb2.SubmitRequest(group=one.group, contents=one.contents)
    answer = await stub.Submit(request, metadata=engine.metadata)
    assert answer.receipts[0].receipt.code == code_pb2.CODE_OK
    return one


async def ready_to_read(app: App) -> Put:
    one = await written(app)
    status, _ = await app.login(CLINICIAN.delegate(app.member.device.address))
    assert status == 200
    await until(lambda: app.member.device.address in app.member.ledger.people, "the device is registered", 10)
    return one


async def ready_to_write(app: App) -> None:
    """Logged in with a delegation to write and read, and the device seen to be registered."""
    device = app.member.device.address
    status, _ = await app.login(CLINICIAN.delegate(device, actions=("read", "write")))
    assert status == 200

    async def registered() -> bool:
        return (await app.get(f"/fhir/Observation/{uuid7()}"))[0] != 503

    await until(registered, "the device may act", 10)


async def reading(app: App, path: str, **headers: str) -> tuple[int, Any, Any]:
    """A read, after the device was seen to be registered."""
    answers: list[tuple[int, Any, Any]] = []

    async def answered() -> bool:
        answers.append(await app.get(path, **headers))
        return answers[-1][0] != 503

    await until(answered, "the device may read", 10)
    return answers[-1]


def about_the_patient(**changes: object) -> dict[str, Any]:
    left_out = ("id", "encounter", "performer")
    kept = {name: value for name, value in an_observation().items() if name not in left_out}
    return {**kept, "subject": {"reference": f"Patient/{PATIENT.address}"}, **changes}


def issue(raw: bytes) -> dict[str, Any]:
    assert checker().check(raw) == "OperationOutcome"
    return orjson.loads(raw)["issue"][0]
