"""Of three members any one may be away, or any of its programs: the others write, read and break glass on."""

from __future__ import annotations

import asyncio

import pytest

from cbmdhi.client import Client
from ops.devnet import Network
from tests.failover.going_on import (
    Stopwatch,
    Team,
    away,
    glass_broken,
    goes_on,
    hanging,
    load,
    new_patient,
    read,
    written,
)
from tests.support.mesh import People, observation

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


@pytest.mark.in_turn("member", shortly=["lakeside"], at_length=["northgate", "mercy"])
async def test_with_a_whole_member_killed_the_others_go_on_and_it_catches_up(
    network: Network, people: People, patient: Client, stopwatch: Stopwatch, member: str
) -> None:
    """Its peer, its orderer, its Kubo node, NATS and services. Of mercy, the patient is registered there."""
    there = "mercy" if member != "mercy" else "lakeside"
    async with Team.at(there, people, patient) as team:
        async with load(team.writer, team.patient), away(network, network.programs(member)):
            await goes_on(team, f"all of {member}", stopwatch)
            record = await written(team.writer, observation(patient))
        async with Client(patient.wallet, member) as returned:
            await read(returned, record)


async def test_a_custodian_that_was_away_gets_its_keys_and_opens_records_without_their_writer(
    network: Network, people: People
) -> None:
    """The first record of a patient, so that nobody had a key for them when lakeside's peer was away."""
    async with await new_patient(people, ("MercyMSP", "LakesideMSP")) as patient:
        async with away(network, ["lakeside-peer"]):
            record = await written(people.engine, observation(patient))
            await read(patient, record)
            await glass_broken(people.mercy_clinician, record)
        # Mercy, the writer, keeps its ledger alone: lakeside has to hold the key itself.
        async with away(network, ["mercy-storage"]), Client(patient.wallet, "lakeside") as at_lakeside:
            await read(at_lakeside, record)


@pytest.mark.in_turn(
    "program",
    shortly=["northgate-peer"],
    at_length=[
        *(
            f"northgate-{program}"
            for program in ("chaincode", "ipfs", "nats", "ledger", "storage", "gateway")
        ),
        *(f"lakeside-{program}" for program in ("peer", "chaincode", "ipfs", "storage", "ledger")),
    ],
)
async def test_with_a_program_of_another_member_killed_nobody_here_waits(
    network: Network, people: People, patient: Client, stopwatch: Stopwatch, program: str
) -> None:
    async with (
        Team.at("mercy", people, patient) as team,
        load(team.writer, team.patient),
        away(network, [program]),
    ):
        await goes_on(team, program, stopwatch)


@pytest.mark.in_turn("program", shortly=["ordering-orderer"], at_length=["mercy-orderer", "lakeside-orderer"])
async def test_with_any_orderer_killed_the_others_order(
    network: Network, people: People, patient: Client, stopwatch: Stopwatch, program: str
) -> None:
    """One of the three leads."""
    async with (
        Team.at("mercy", people, patient) as team,
        load(team.writer, team.patient),
        away(network, [program]),
    ):
        await goes_on(team, program, stopwatch)


@pytest.mark.in_turn("program", shortly=["lakeside-orderer"], at_length=["ordering-orderer", "mercy-orderer"])
async def test_with_any_orderer_that_hangs_the_others_order(
    network: Network, people: People, patient: Client, stopwatch: Stopwatch, program: str
) -> None:
    """Nobody is told that it is gone: peers submit to it, wait for its blocks, and orderers follow it."""
    async with (
        Team.at("mercy", people, patient) as team,
        load(team.writer, team.patient),
        hanging(network, program),
    ):
        await goes_on(team, f"{program}, which hangs", stopwatch)


@pytest.mark.in_turn(
    "program",
    shortly=["mercy-peer"],
    at_length=[
        f"mercy-{program}"
        for program in (
            *("chaincode", "ipfs", "nats", "orderer"),
            *("ledger", "storage", "identity", "notify", "gateway"),
        )
    ],
)
async def test_a_program_of_the_own_member_that_is_killed_is_there_again(
    network: Network, people: People, patient: Client, stopwatch: Stopwatch, program: str
) -> None:
    """The supervisor starts it, as Kubernetes would."""
    async with Team.at("mercy", people, patient) as team, load(team.writer, team.patient):
        await asyncio.to_thread(network.kill, program)
        await goes_on(team, f"{program} until it is back", stopwatch)
    await asyncio.to_thread(network.wait_ready, seconds=120)


@pytest.mark.in_turn(
    "program",
    shortly=["lakeside-storage"],
    at_length=["lakeside-peer", "lakeside-chaincode", "lakeside-ipfs"],
)
async def test_a_program_of_another_member_that_hangs_is_done_without(
    network: Network, people: People, patient: Client, stopwatch: Stopwatch, program: str
) -> None:
    """It takes connections and answers nothing, as a machine that the network has lost."""
    async with (
        Team.at("mercy", people, patient) as team,
        load(team.writer, team.patient),
        hanging(network, program),
    ):
        await goes_on(team, f"{program}, which hangs", stopwatch)
