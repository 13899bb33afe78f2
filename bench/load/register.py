"""Thousands of patients through the mesh's own registration: enrolled, registered, reviewed, consenting.

What limits it is the Fabric CA: two password hashes for each enrolment. The rest goes in groups: many
registrations at a time, then the votes of each member, then the consents, each over one stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from bench.load.group_stream import carry
from bench.load.registered import Known, Person
from cbmdhi.client import Client
from cbmdhi.client.connection import Connection
from cbmdhi.client.consents import consent, provision
from cbmdhi.client.registration import Registration
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.protocol import command
from cbmdhi.wallet import Wallet
from ops.demo.cast import Stage

T = TypeVar("T")

READERS_MSP = "LakesideMSP"
_GROUP = 250
_AT_ONCE = 24
_DEADLINE_SECONDS = 60.0
_TRIES = 3
_EVIDENCE = {"document": "made up for a load test"}
_PASSING = frozenset(
    {code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_RESOURCE_EXHAUSTED}
)


@dataclass(frozen=True)
class Office:
    """Through whom patients are registered.

    administrators  of every member whose vote is needed
    first_contact   a channel to the home member's gateway, shared by all the wallets
    """

    stage: Stage
    administrators: Sequence[Client]
    first_contact: grpc.aio.Channel


async def patients(office: Office, known: Known, wanted: int, tick: Callable[[int], None]) -> list[Person]:
    """The first `wanted` patients; those who are missing are registered, and kept for the next run."""
    there = known.patients[:wanted]
    tick(len(there))
    while len(there) < wanted:
        names = [
            f"hammer-patient-{number:05d}" for number in range(len(there), min(len(there) + _GROUP, wanted))
        ]
        made = await _group(office, names, tick)
        known.add_patients(made)
        there += made
    return there


async def _group(office: Office, names: Sequence[str], tick: Callable[[int], None]) -> list[Person]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> tuple[Wallet, IdentityDocument]:
        async with turns:
            wallet = await asyncio.to_thread(office.stage.wallet, name, "mercy", pb.ROLE_PATIENT)
            document = await again(lambda: _registered(office, wallet))
            tick(1)
            return wallet, document

    made = await asyncio.gather(*(one(name) for name in names))
    for administrator in office.administrators:
        await _vote(administrator, [document for _, document in made])
    await _consent(office.administrators[0], [wallet for wallet, _ in made])
    return [Person(name, wallet.address) for name, (wallet, _) in zip(names, made, strict=True)]


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives; one call among thousands that was late shall not end them all. Raises MeshError."""
    for attempt in range(1, _TRIES):
        try:
            return await work()
        except MeshError as error:
            if error.code not in _PASSING:
                raise
            await asyncio.sleep(max(error.retry_after_ms / 1000, attempt))
    return await work()


async def _registered(office: Office, wallet: Wallet) -> IdentityDocument:
    """The patient's identity, enrolled and registered unless a run that was cut short did so already."""
    member = wallet.consortium.member_named(wallet.member)
    connection = Connection(wallet, member, _DEADLINE_SECONDS, office.first_contact)
    registration = Registration(connection)
    try:
        if wallet.certificate_pem:
            try:
                return await registration.identity()
            except MeshError as error:
                if error.code_name != "NOT_FOUND":
                    raise
        await registration.enrol()
        await registration.register(_EVIDENCE)
        return await registration.identity()
    finally:
        await connection.close()


async def _vote(administrator: Client, documents: Sequence[IdentityDocument]) -> None:
    """Approve those that wait for this member's vote."""
    wallet = administrator.wallet
    bodies = {
        document.address: pb.ReviewRegistration(
            address=document.address,
            registration_id=document.registration_id,
            decision=pb.DECISION_APPROVE,
            reason_code="identity-verified",
            evidence_cid=document.evidence_cid,
        )
        for document in documents
        if document.status == state_pb2.IDENTITY_STATUS_PENDING
        and wallet.member not in {vote.msp for vote in document.reviews}
    }
    channel = wallet.consortium.signed_channel
    groups = {name: command.make_group([(wallet, body)], channel=channel) for name, body in bodies.items()}
    if groups:
        await carry(administrator, groups)


async def _consent(carrier: Client, wallets: Sequence[Wallet]) -> None:
    """Each patient lets the other member's clinicians read for treatment: the commands are their own.

    The consent is the patient's first: whoever has consents already (CONFLICT) gave it in a run that was cut
    short.
    """
    groups = {
        wallet.address: command.make_group(
            [(wallet, consent(wallet.address, provision(role=pb.ROLE_CLINICIAN, msp=READERS_MSP)))],
            channel=wallet.consortium.signed_channel,
        )
        for wallet in wallets
    }
    await carry(carrier, groups, fine=frozenset({code_pb2.CODE_CONFLICT}))
