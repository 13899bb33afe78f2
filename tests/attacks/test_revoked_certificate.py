"""Somebody with a certificate that was revoked at the Fabric CA and nowhere else: all keys, every gateway."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

import fabric_gateway as fabric
from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from cbmdhi.waiting import until
from ops.demo import cast
from ops.devnet import Network, first_administrator
from ops.devnet.fabric_ca import FabricCa, Identity, forget_client
from ops.devnet.identities import CARRIER
from tests.support.fabric_caller import CHAINCODE, MEMBERS, QUERY, Caller, common, ledger_of_mercy
from tests.support.mesh import People, observation
from tests.support.rogue import (
    RogueGateway,
    access,
    delegated,
    opened,
    refusal,
    signed_record,
    written,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED = ("INACTIVE_SIGNER", "UNAUTHENTICATED")
SECONDS = 5


async def is_refused(attempt: Callable[[], Awaitable[object]]) -> bool:
    try:
        await attempt()
    except MeshError as error:
        if error.code_name not in REFUSED:
            raise
        return True
    return False


async def end_of(stream: Client) -> MeshError:
    """Why an open stream of notifications ended."""
    with pytest.raises(MeshError) as caught:
        async for _ in stream.inbox.stream():
            pass
    return caught.value


async def test_a_patient_whose_certificate_is_revoked_can_do_nothing_at_any_member(people: People) -> None:
    async with await people.new_patient() as stolen, Client(stolen.wallet, "lakeside") as elsewhere:
        line = provision(grantee=people.mercy_clinician.wallet.address)
        sessions = (stolen, elsewhere)
        for session in sessions:
            await session.consents.grant(line)
            await session.inbox.list()
        await people.engine.records.put(record := observation(stolen))
        async with stolen.fhir() as rest:
            assert not await is_refused(lambda: rest.read("Observation", record.record_id))
            streams = [asyncio.create_task(end_of(session)) for session in sessions]

            registrar = people.stage.endpoints["organisations"]["mercy"]["registrar"]
            revoked_at = time.monotonic()
            first_administrator.revoke(
                registrar, people.stage.fabric_ca_client, stolen.wallet.address, "keycompromise"
            )

            for session in sessions:
                await until(
                    lambda session=session: is_refused(session.inbox.list),
                    "the gateway refuses an open session",
                    deadline_seconds=SECONDS,
                )
            for reason in await asyncio.wait_for(asyncio.gather(*streams), SECONDS):
                assert reason.code_name in REFUSED
            assert time.monotonic() - revoked_at < SECONDS
            assert await is_refused(lambda: rest.read("Observation", record.record_id))
        for session in sessions:
            assert await is_refused(lambda session=session: session.consents.grant(line))
            session.connection.forget_token()
            assert await is_refused(session.connection.token)
        with pytest.raises(MeshError) as caught:
            async with stolen.fhir():
                pass
        assert caught.value.code_name in REFUSED
        assert await is_refused(stolen.registration.enrol)
        # What others write about the patient goes on.
        await people.engine.records.put(observation(stolen))


async def test_a_gateway_that_ignores_the_lists_carries_a_revoked_clinicians_read_and_no_storage_releases(
    network: Network, people: People, patient: Client, rogue: RogueGateway
) -> None:
    staff = cast.member_of_staff(
        *(people.stage, "mercy", f"clinician-{uuid7()}", pb.ROLE_CLINICIAN),
        *(people.mercy_administrator, people.lakeside_administrator),
    )
    async with await staff as stolen, RogueGateway(network, "lakeside") as elsewhere:
        thief, gateways = stolen.wallet, (rogue, elsewhere)
        record = observation(patient)
        await written(people.engine, people.engine.records.prepare(record))
        await patient.consents.grant(provision(grantee=thief.address))

        async def outcome(gateway: RogueGateway, by: command.Signer) -> str:
            """Of a new command each time: the channel decides, storage releases or says why not."""
            [receipt] = await gateway.carry(gateway.sign(by, access(record)))
            assert receipt.code == code_pb2.CODE_OK, receipt
            try:
                await opened(gateway, receipt)
            except MeshError as error:
                return error.code_name
            return "OK"

        device = rogue.device(delegated(thief, rogue.device().address))
        for gateway in gateways:
            assert await outcome(gateway, thief) == "OK"
        assert await outcome(rogue, device) == "OK"

        registrar = people.stage.endpoints["organisations"]["mercy"]["registrar"]
        first_administrator.revoke(registrar, people.stage.fabric_ca_client, thief.address, "keycompromise")

        async def refused_everywhere() -> bool:
            return [
                *[await outcome(gateway, thief) for gateway in gateways],
                await outcome(rogue, device),
            ] == ["INACTIVE_SIGNER"] * 3

        await until(refused_everywhere, "no storage releases a key", deadline_seconds=SECONDS)
        _, signed, content = signed_record(stolen, observation(patient))
        error = await refusal(rogue.seal(signed, content.content, content.salt))
        assert error.code_name == "INACTIVE_SIGNER", error


def cli(network: Network, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cbmdhi.cli.main", *arguments, "--home", str(network.home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_an_operator_revokes_and_the_channel_knows(network: Network, people: People) -> None:
    async with await people.new_patient() as stolen:
        arguments = ("revoke", "mercy", stolen.wallet.address, "--json")
        without_wallet = await asyncio.to_thread(cli, network, *arguments)
        assert without_wallet.returncode == 2
        assert await cast.is_active(stolen)

        wallet = str(people.mercy_administrator.wallet.folder)
        done = await asyncio.to_thread(cli, network, *arguments, "--wallet", wallet)

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["suspended_in_block"] > 0
        document = await cast.find(people.lakeside_administrator, stolen.wallet.address)
        assert document is not None
        assert document.status == state_pb2.IDENTITY_STATUS_SUSPENDED


async def test_a_revoked_carrier_is_refused_by_every_peer_and_orderer(
    network: Network, people: People
) -> None:
    ca = FabricCa(network.files, "mercy", network.ports())
    await asyncio.to_thread(ca.begin)
    try:
        enrolled = await asyncio.to_thread(ca.identity, Identity("stolen", "client", {CARRIER: "true:ecert"}))
    finally:
        forget_client(network.files, "mercy")
    stolen = Caller(network, enrolled.certificate, enrolled.key)
    asked = ("query", QUERY)
    for member in MEMBERS:
        async with stolen.at_peer(member) as channel:
            assert await channel.contract(CHAINCODE).evaluate(*asked, organisations=("MercyMSP",))

    done = await asyncio.to_thread(cli, network, "revoke", "mercy", "stolen", "--reason", "misuse")
    assert done.returncode == 0, done.stderr

    for member in MEMBERS:
        async with stolen.at_peer(member) as channel:

            async def refused(channel: fabric.Network = channel) -> bool:
                try:
                    await channel.contract(CHAINCODE).evaluate(*asked, organisations=("MercyMSP",))
                except fabric.StepError as error:
                    return all("access denied" in said for said in error.chaincode_messages)
                return False

            await until(refused, f"{member}'s peer refuses the revoked carrier")
    assert (await stolen.broadcast()).status == common.FORBIDDEN
    # Nobody else is.
    async with ledger_of_mercy(network).at_peer("lakeside") as channel:
        assert await channel.contract(CHAINCODE).evaluate(*asked, organisations=("MercyMSP",))
