"""Who has a certificate of a member's Fabric CA and network reach speaks to peers and orderer directly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

import fabric_gateway as fabric
from cbmdhi.client import Client
from cbmdhi.command.v1 import state_pb2
from ops.devnet import Network
from ops.devnet.fabric_ca import FabricCa, Identity, forget_client
from tests.support.fabric_caller import CHAINCODE, MEMBERS, QUERY, Caller, common, ledger_of_mercy, of
from tests.support.mesh import People

pytestmark = pytest.mark.asyncio(loop_scope="session")

BATCH = state_pb2.Batch().SerializeToString()
_SECONDS = 20


async def first_block(channel: fabric.Network) -> fabric.Block:
    async with asyncio.timeout(_SECONDS), aclosing(channel.blocks(0)) as blocks:
        return await anext(blocks)


async def refused(attempt: Callable[[], Awaitable[object]]) -> Exception:
    """What an attempt was answered, when it was refused."""
    try:
        answer = await attempt()
    except fabric.FabricError as error:
        return error
    raise AssertionError(f"the peer answered: {answer!r:.300}")


@pytest.fixture(scope="session")
def client_without_the_attribute(network: Network) -> Caller:
    """A Fabric client of mercy's CA: reader and writer of the channel by its MSP, and no carrier."""
    ca = FabricCa(network.files, "mercy", network.ports())
    ca.begin()
    try:
        enrolled = ca.identity(Identity("monitoring", "client", {"cbmdhi.role": "administrator:ecert"}))
    finally:
        forget_client(network.files, "mercy")
    return Caller(network, enrolled.certificate, enrolled.key)


async def test_the_carrier_gets_what_the_others_are_refused(network: Network, people: People) -> None:
    """That the attempts below are sound: with the right certificate each one succeeds."""
    carrier = ledger_of_mercy(network)
    for member in MEMBERS:
        async with carrier.at_peer(member) as channel:
            contract = channel.contract(CHAINCODE)
            assert await contract.evaluate("query", QUERY, organisations=("MercyMSP",))
            assert (await first_block(channel)).number == 0
    assert (await carrier.first_block_at_orderer()).block.header.number == 0


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("who", ["patient", "administrator", "engine", "device"])
async def test_a_certificate_of_a_person_or_device_is_worth_nothing_at_any_peer(
    network: Network, people: People, patient: Client, member: str, who: str
) -> None:
    async with person(network, people, patient, who).at_peer(member) as channel:
        contract = channel.contract(CHAINCODE)
        for attempt in (
            lambda: contract.evaluate("query", QUERY, organisations=("MercyMSP",)),
            lambda: contract.evaluate("query", QUERY, organisations=("LakesideMSP",)),
            lambda: contract.propose("process", BATCH).endorse(),
            lambda: contract.propose("init", b"").endorse(),
            channel.chain_info,
            lambda: channel.block_by_number(1),
            channel.application_msp_ids,
            lambda: first_block(channel),
        ):
            error = await refused(attempt)
            if isinstance(error, fabric.StepError):
                # Refused for who it is, not for what it says: no chaincode was asked.
                assert all("access denied" in said for said in error.chaincode_messages), (
                    error.chaincode_messages
                )
            else:
                assert isinstance(error, fabric.BlockEventsError)
                assert error.status == common.FORBIDDEN


async def test_a_persons_certificate_is_worth_nothing_at_the_orderer(
    network: Network, people: People, patient: Client
) -> None:
    stranger = of(patient, network)
    assert (await stranger.first_block_at_orderer()).status == common.FORBIDDEN
    assert (await stranger.broadcast()).status == common.FORBIDDEN


@pytest.mark.parametrize("member", MEMBERS)
async def test_a_client_of_the_channel_that_is_no_carrier_is_refused_by_the_chaincode(
    network: Network, client_without_the_attribute: Caller, member: str
) -> None:
    async with client_without_the_attribute.at_peer(member) as channel:
        contract = channel.contract(CHAINCODE)
        for function, argument in (("query", QUERY), ("process", BATCH), ("init", b"")):
            for attempt in (
                lambda f=function, a=argument: contract.evaluate(f, a, organisations=("MercyMSP",)),
                lambda f=function, a=argument: contract.propose(f, a).endorse(),
            ):
                error = await refused(attempt)
                assert isinstance(error, fabric.StepError)
                assert error.chaincode_messages
                assert all(said.startswith("CODE_FORBIDDEN: creator: ") for said in error.chaincode_messages)


def person(network: Network, people: People, patient: Client, who: str) -> Caller:
    if who == "device":
        folder = network.files.organisation("mercy").service("gateway") / "device"
        key = (folder / "signing.key").read_bytes()
        return Caller(network, (folder / "certificate.pem").read_bytes(), key)
    known = {"patient": patient, "administrator": people.mercy_administrator, "engine": people.engine}
    return of(known[who], network)
