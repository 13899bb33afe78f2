"""Who plays: the staff of both hospitals, registered once, and a new patient for each telling."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbmdhi.client import Client
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1 import state_pb2
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.waiting import until
from cbmdhi.wallet import Wallet
from ops.devnet import first_administrator


@dataclass(frozen=True)
class Stage:
    """Where the story is told: the network's folder and its endpoints."""

    home: Path
    endpoints: dict[str, Any]
    fabric_ca_client: Path

    @classmethod
    def of(cls, home: Path, endpoints: dict[str, Any]) -> Stage:
        """The stage of a running network: its tools lie where it was built."""
        return cls(home, endpoints, Path(endpoints["tools"]["fabric_ca_client"]))

    @property
    def consortium_file(self) -> Path:
        """The file that wallets pin."""
        return Path(self.endpoints["consortium_file"])

    def wallet(self, name: str, member: str, role: pb.Role) -> Wallet:
        """The wallet of that name, made when it is not there."""
        folder = self.home / "wallets" / name
        # Its keys are written last: without them its making was cut short.
        if (folder / "keys.json").exists():
            return Wallet.load(folder)
        return Wallet.create(folder, self.consortium_file, member, role)


# Each step of joining is on record somewhere: a telling that was cut short is gone on with from there.


async def administrator(stage: Stage, member: str) -> Client:
    """The member's first administrator: enrolled by its operator's invitation, active by the CA's word."""
    client = Client(stage.wallet(f"{member}-administrator", member, pb.ROLE_ADMINISTRATOR), member)
    if not await is_active(client):
        registrar = stage.endpoints["organisations"][member]["registrar"]

        async def invited() -> str:
            return first_administrator.invite(
                registrar, stage.fabric_ca_client, client.wallet.address, pb.ROLE_ADMINISTRATOR
            )

        await _registered(client, invited)
        await until(lambda: is_active(client), f"the administrator of {member} is active")
    return client


_BELIEVED_BY_ALL = (pb.ROLE_CLINICIAN, pb.ROLE_ADMINISTRATOR, pb.ROLE_PRIVACY_OFFICER)


async def member_of_staff(
    stage: Stage, member: str, name: str, role: pb.Role, by: Client, also: Client
) -> Client:
    """Somebody invited and approved by their own member's administrator, and by another member's where all
    members believe the role: `by` and `also`."""
    client = Client(stage.wallet(name, member, role), member)
    if not await is_active(client):
        await _registered(client, lambda: by.registration.invite(client.wallet.address, role))
        for reviewer in (by, also) if role in _BELIEVED_BY_ALL else (by,):
            await approve(reviewer, client.wallet.address)
        await until(lambda: is_active(client), f"{name} is active")
    return client


async def approve(reviewer: Client, address: str) -> IdentityDocument:
    """Wait until a registration reaches the reviewer's member; approve it after a look at its evidence.

    Nothing is done where it is active, or where that member has approved it. Gives it as it was before.
    """

    async def known() -> IdentityDocument | None:
        return await find(reviewer, address)

    identity = await until(known, "the registration reaches the reviewers")
    if identity.status != state_pb2.IDENTITY_STATUS_ACTIVE and not _has_approved(reviewer, identity):
        await reviewer.registration.review(identity, approve=True)
    return identity


def _has_approved(reviewer: Client, identity: IdentityDocument) -> bool:
    return any(
        vote.msp == reviewer.wallet.member and vote.decision == pb.DECISION_APPROVE
        for vote in identity.reviews
    )


async def is_active(client: Client) -> bool:
    """True when the wallet's identity is active on the channel, as its gateway sees it."""
    identity = await find(client, client.wallet.address)
    return identity is not None and identity.status == state_pb2.IDENTITY_STATUS_ACTIVE


async def find(client: Client, address: str) -> IdentityDocument | None:
    """The identity of that address, if it is registered."""
    try:
        return await client.registration.identity(address)
    except MeshError as error:
        if error.code_name != "NOT_FOUND":
            raise
        return None


async def _registered(client: Client, invited: Callable[[], Awaitable[str]]) -> None:
    """Enrol, with the secret that `invited` gives, and register: what an earlier telling has not done."""
    if not client.wallet.certificate_pem:
        await client.registration.enrol(await invited())
    if await find(client, client.wallet.address) is None:
        await client.registration.register()
