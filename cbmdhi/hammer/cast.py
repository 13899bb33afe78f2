"""Who takes part in a run: authors and patients, registered once and kept for the next run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from cbmdhi.client import Client
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.demo import cast
from cbmdhi.demo.cast import Stage
from cbmdhi.waiting import until


@dataclass(frozen=True)
class Cast:
    """Authors, the patients by address, and a client at each member's gateway."""

    authors: list[Client]
    patients: dict[str, Client]
    members: list[Client]


async def gather(
    stage: Stage, users: int, patients: int, clients: AsyncExitStack, tick: Callable[[], None]
) -> Cast:
    """`users` engines and `patients` patients of mercy; `tick` is called with each that is there."""
    mercy = await clients.enter_async_context(await cast.administrator(stage, "mercy"))
    lakeside = await clients.enter_async_context(await cast.administrator(stage, "lakeside"))
    authors: list[Client] = []
    for number in range(users):
        name = f"hammer-engine-{number}"
        made = await cast.member_of_staff(stage, "mercy", name, pb.ROLE_ENGINE, mercy)
        authors.append(await clients.enter_async_context(made))
        tick()
    found: dict[str, Client] = {}
    for number in range(patients):
        wallet = stage.wallet(f"hammer-patient-{number}", "mercy", pb.ROLE_PATIENT)
        client = await clients.enter_async_context(Client(wallet))
        if not await cast.is_active(client):
            await _register(client, mercy, lakeside)
        found[wallet.address] = client
        tick()
    return Cast(authors, found, [mercy, lakeside])


async def _register(client: Client, *administrators: Client) -> None:
    if await cast.find(client, client.wallet.address) is None:
        await client.registration.enrol()
        await client.registration.register({})
    for administrator in administrators:
        await cast.approve(administrator, client.wallet.address)
    await until(lambda: cast.is_active(client), "the patient is active")
