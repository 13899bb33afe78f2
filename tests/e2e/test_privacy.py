"""The third rule: no health data and no personal identifier where they do not belong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import fabric_gateway as fabric
from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.protocol.ids import uuid7
from cbmdhi.waiting import until
from ops.demo import cast
from ops.devnet import Network, first_administrator
from tests.e2e.conftest import People, observation
from tests.support.fabric_caller import Caller, of

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADDRESS = re.compile(rb"cb1[a-z2-7]{32}")


def files_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file and what is in it; one that goes away meanwhile (a database compacts) is passed over."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_socket():
            try:
                yield path, path.read_bytes()
            except FileNotFoundError:
                continue


async def test_what_a_record_says_is_nowhere_in_clear_on_any_disk_of_the_mesh(
    network: Network, people: People
) -> None:
    written_by_hand, document_number = f"finding-{uuid7()}", f"passport-{uuid7()}"
    async with people.newcomer() as patient:
        await patient.registration.enrol()
        await patient.registration.register({"passport": document_number})
        for administrator in (people.mercy_administrator, people.lakeside_administrator):
            await cast.approve(administrator, patient.wallet.address)
        await until(lambda: cast.is_active(patient), "the patient is active")
        record = observation(patient, note=[{"text": written_by_hand}])
        [result] = await people.engine.records.put([record])
        assert result.ok
        await patient.consents.grant(provision(grantee=people.mercy_clinician.wallet.address))
        async with people.mercy_clinician.fhir() as session:
            assert (await session.read("Observation", record.record_id))["note"][0]["text"] == written_by_hand

    searched = 0
    for path, content in files_below(network.home):
        searched += 1
        assert written_by_hand.encode() not in content, path
        assert document_number.encode() not in content, path
    assert searched > 100


async def a_day_with_the_certificate_authority(people: People) -> None:
    """Whatever makes it name who asks: enrolled again, a wrong secret, a role that is another, revoked."""
    registrar = people.stage.endpoints["organisations"]["mercy"]["registrar"]
    async with people.newcomer() as patient, people.newcomer(pb.ROLE_CLINICIAN) as clinician:
        await patient.registration.enrol()
        await patient.registration.enrol()
        with pytest.raises(MeshError):
            await clinician.registration.enrol("a wrong secret of nobody")
        invite = people.mercy_administrator.registration.invite
        secret = await invite(clinician.wallet.address, pb.ROLE_CLINICIAN)
        await invite(clinician.wallet.address, pb.ROLE_CLINICIAN)
        with pytest.raises(MeshError):
            await clinician.registration.enrol(secret)
        with pytest.raises(MeshError):
            first_administrator.invite(
                registrar, people.stage.fabric_ca_client, patient.wallet.address, pb.ROLE_CLINICIAN
            )
        for one in (patient, clinician):
            first_administrator.revoke(
                registrar, people.stage.fabric_ca_client, one.wallet.address, "keycompromise"
            )
        with pytest.raises(MeshError):
            await patient.registration.enrol()


async def stranger_at_peers_and_orderer(stranger: Caller) -> None:
    """A person's certificate, shown where it is worth nothing: programs like to log whom they turn away."""
    for member in ("mercy", "lakeside"):
        async with stranger.at_peer(member) as channel:
            with pytest.raises(fabric.StepError):
                await channel.contract("cbmdhi").evaluate("query", b"")
            with pytest.raises(fabric.StepError):
                await channel.chain_info()
            async with aclosing(channel.blocks(0)) as blocks:
                with pytest.raises(fabric.BlockEventsError):
                    await anext(blocks)
    await stranger.first_block_at_orderer()
    await stranger.broadcast()


async def test_no_log_of_a_running_program_names_a_person(network: Network, people: People) -> None:
    await a_day_with_the_certificate_authority(people)
    async with await people.new_patient() as patient:
        [result] = await people.engine.records.put([observation(patient)])
        assert result.ok
        # Two members contend for one document: peers like to log the keys that conflict.
        async with Client(patient.wallet, "lakeside") as elsewhere:
            line = provision(grantee=people.mercy_clinician.wallet.address)
            await asyncio.gather(
                *(client.consents.grant(line) for client in (patient, elsewhere) for _ in range(8)),
                return_exceptions=True,
            )
        await stranger_at_peers_and_orderer(of(patient, network))
    logs = [path for path in (network.home / "logs").iterdir() if path.name != "setup.log"]
    assert len(logs) > 15
    # Where, and how the line begins: time, level and module; not the address itself.
    naming = {
        path.name: {line[:60] for line in path.read_bytes().splitlines() if ADDRESS.search(line)}
        for path in logs
    }
    assert not {name: lines for name, lines in naming.items() if lines}
