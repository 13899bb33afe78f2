"""People and systems with real keys, and what they sign and send."""

import time
from dataclasses import dataclass, field
from functools import cache

import orjson
from carebundle import generate_bundle, to_json
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import Message

from cbmdhi.command.v1.command_pb2 import (
    Access,
    CommandGroup,
    Delegation,
    PutRecord,
    Role,
    SignedCommand,
    SignedDelegation,
)
from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus
from cbmdhi.gateway.v1.gateway_pb2 import Content
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import categories, command, envelope, hpke, signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.fhir.schema_loader import load_checker
from tests.support.channel import CHANNEL

NOW_ACTIVE = IdentityStatus.IDENTITY_STATUS_ACTIVE


@cache
def checker() -> ResourceChecker:
    """One checker for all tests."""
    return load_checker()[0]


@cache
def bundle(profile: str = "type2_diabetes", seed: int = 42) -> dict[str, object]:
    """A patient's history as carebundle makes it."""
    return orjson.loads(to_json(generate_bundle(profile=profile, seed=seed)))


def resources(resource_type: str) -> list[dict[str, object]]:
    """Those of one type in the history."""
    entries = bundle()["entry"]
    assert isinstance(entries, list)
    return [e["resource"] for e in entries if e["resource"]["resourceType"] == resource_type]


def an_observation() -> dict[str, object]:
    """One with a value, about whomever its record is about."""
    found = dict(next(one for one in resources("Observation") if "valueQuantity" in one))
    del found["subject"]
    return found


@dataclass(frozen=True)
class Person:
    """Somebody, or some system, with keys."""

    role: Role = Role.ROLE_ENGINE
    msp: str = "MercyMSP"
    key: ec.EllipticCurvePrivateKey = field(default_factory=signature.new_private_key)
    hpke_keys: tuple[bytes, bytes] = field(default_factory=hpke.generate)

    @property
    def address(self) -> str:
        return addresses.of_public_key(self.key.public_key())

    @property
    def delegation(self) -> None:
        return None

    def sign_command(self, serialized: bytes) -> SignedCommand:
        return command.KeySigner(self.key).sign_command(serialized)

    def document(self, status: IdentityStatus = NOW_ACTIVE) -> IdentityDocument:
        return IdentityDocument(
            address=self.address,
            role=self.role,
            home_msp=self.msp,
            status=status,
            signing_public_key=signature.spki(self.key.public_key()),
            hpke_public_key=self.hpke_keys[1],
        )

    def access(self, patient: str, record_id: str, version: int = 1, purpose: str = "TREAT") -> SignedCommand:
        body = Access(patient=patient, record_id=record_id, version=version, purpose=purpose, action="read")
        return self.sign_command(command.make(body, channel=CHANNEL))

    def delegate(
        self,
        device: str,
        channel: Channel = CHANNEL,
        hours: float = 1.0,
        actions: tuple[str, ...] = ("read", "history"),
        patients: tuple[str, ...] = (),
    ) -> SignedDelegation:
        now = time.time_ns() // 1_000_000
        delegation = Delegation(
            delegation_id=uuid7(),
            channel=channel.name,
            genesis_sha256=channel.genesis_sha256,
            delegator=self.address,
            delegate=device,
            actions=actions,
            purposes=["TREAT"],
            patients=patients,
            issued_at_ms=now - 1000,
            expires_at_ms=now + int(hours * 3_600_000),
        ).SerializeToString()
        return SignedDelegation(
            delegation=delegation, signature=signature.sign(self.key, signature.DELEGATION, delegation)
        )


@dataclass
class Put:
    """A signed PutRecord with its content."""

    group: CommandGroup
    contents: list[Content]

    @property
    def body(self) -> PutRecord:
        return command.parse(self.group.commands[0])[1].put_record

    @property
    def command_id(self) -> str:
        return command.parse(self.group.commands[0])[0].command_id


def put_together(signer: Person, patient: Person, count: int, *others: tuple[Person, Message]) -> Put:
    """So many records in one group, and what else is in it."""
    raw, salt = orjson.dumps(an_observation()), envelope.new_salt()
    bodies = [
        PutRecord(
            record_id=uuid7(),
            version=1,
            patient=patient.address,
            category="observations",
            content_commitment=envelope.commitment(salt, raw),
            content_bytes=len(raw),
        )
        for _ in range(count)
    ]
    group = command.make_group([*((signer, body) for body in bodies), *others], channel=CHANNEL)
    return Put(group, [Content(command_index=index, content=raw, salt=salt) for index in range(count)])


def put(
    signer: Person,
    patient: Person | str,
    resource: dict[str, object] | bytes | None = None,
    *others: tuple[Person, Message],
    channel: Channel = CHANNEL,
    record_id: str = "",
    now_ms: int | None = None,
    **changed: object,
) -> Put:
    """A record as an engine would send it, but for the fields of the PutRecord that are `changed`."""
    resource = an_observation() if resource is None else resource
    raw = resource if isinstance(resource, bytes) else orjson.dumps(resource)
    salt = envelope.new_salt()
    kind = "" if isinstance(resource, bytes) else str(resource.get("resourceType"))
    fields = {
        "record_id": record_id or uuid7(),
        "version": 1,
        "patient": patient if isinstance(patient, str) else patient.address,
        "category": categories.of_resource(kind),
        "content_commitment": envelope.commitment(salt, raw),
        "content_bytes": len(raw),
        **changed,
    }
    body = PutRecord(**fields)  # type: ignore[arg-type]
    group = command.make_group([(signer, body), *others], channel=channel, now_ms=now_ms)
    return Put(group, [Content(command_index=0, content=raw, salt=salt)])
