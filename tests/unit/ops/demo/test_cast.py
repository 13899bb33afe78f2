"""A telling of the story that was cut short anywhere is told to its end by typing the command again."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.wallet import Wallet
from ops.demo import cast, data
from ops.demo.cast import Stage
from ops.demo.story import Story
from tests.unit.ops.cli.test_revoke import consortium

NEVER = 10_000


class CutShort(BaseException):
    """Ctrl-C."""


class Network:
    """What the members keep of who joins, as strict as they are. Dies after so many changes."""

    def __init__(self, dies_after: int = NEVER) -> None:
        self.left = dies_after
        self.secrets: dict[str, str] = {}
        self.identities: dict[str, IdentityDocument] = {}
        self._numbers = itertools.count()

    def changed(self) -> None:
        """Whatever was asked for is done by now; who asked may not live to hear of it."""
        self.left -= 1
        if self.left == 0:
            raise CutShort

    def invite(self, address: str) -> str:
        if address in self.identities:
            raise MeshError(code_pb2.CODE_CONFLICT, "registered already")
        self.secrets[address] = f"secret {next(self._numbers)}"
        self.changed()
        return self.secrets[address]

    def enrol(self, wallet: Wallet, secret: str) -> None:
        if self.secrets.get(wallet.address) != secret:
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, "wrong secret")
        self.changed()
        wallet.keep_certificate("a certificate")
        self.changed()

    def register(self, wallet: Wallet) -> None:
        assert wallet.certificate_pem
        if wallet.address in self.identities:
            raise MeshError(code_pb2.CODE_CONFLICT, "registered already")
        is_known = wallet.role == pb.ROLE_ADMINISTRATOR
        self.identities[wallet.address] = IdentityDocument(
            address=wallet.address,
            role=wallet.role,
            home_msp=wallet.member,
            status=state_pb2.IDENTITY_STATUS_ACTIVE if is_known else state_pb2.IDENTITY_STATUS_PENDING,
        )
        self.changed()

    def review(self, reviewer: Wallet, address: str) -> None:
        identity = self.identities[address]
        if identity.status != state_pb2.IDENTITY_STATUS_PENDING:
            raise MeshError(code_pb2.CODE_CONFLICT, "decided")
        if reviewer.member in [vote.msp for vote in identity.reviews]:
            raise MeshError(code_pb2.CODE_CONFLICT, "voted already")
        identity.reviews.add(msp=reviewer.member, decision=pb.DECISION_APPROVE)
        if len(identity.reviews) == (1 if identity.role == pb.ROLE_ENGINE else 2):
            identity.status = state_pb2.IDENTITY_STATUS_ACTIVE
        self.changed()


class Client:
    """As much of a client as joining takes."""

    def __init__(self, network: Network, wallet: Wallet, member: str) -> None:
        self.wallet, self.network = wallet, network
        self.member = SimpleNamespace(name=member)
        self.registration = self

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def identity(self, address: str) -> IdentityDocument:
        if address not in self.network.identities:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "nobody")
        return self.network.identities[address]

    async def invite(self, address: str, _: pb.Role) -> str:
        return self.network.invite(address)

    async def enrol(self, secret: str) -> None:
        self.network.enrol(self.wallet, secret)

    async def register(self) -> None:
        self.network.register(self.wallet)

    async def review(self, identity: IdentityDocument, *, approve: bool) -> None:
        assert approve
        self.network.review(self.wallet, identity.address)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(data, "history", dict)
    organisations = {name: {"registrar": {}} for name in ("mercy", "lakeside")}
    endpoints = {"consortium_file": str(consortium(tmp_path)), "organisations": organisations}
    return Stage(tmp_path, endpoints, Path("fabric-ca-client"))


async def _staff_joins(stage: Stage, network: Network, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    def client(wallet: Wallet, member: str) -> Any:
        return Client(network, wallet, member)

    def invite(_: object, __: Path, address: str, ___: pb.Role) -> str:
        return network.invite(address)

    monkeypatch.setattr(cast, "Client", client)
    monkeypatch.setattr(cast.first_administrator, "invite", invite)
    async with Story(stage) as story:
        return await story.register_staff()


async def _changes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> int:
    network = Network()
    await _staff_joins(stage, network, monkeypatch)
    return NEVER - network.left


async def test_wherever_the_joining_of_staff_is_cut_short_a_second_telling_ends_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = await _changes(stage, monkeypatch)
    assert changes > 20
    for dies_after in range(1, changes + 1):
        home = tmp_path / str(dies_after)
        home.mkdir()
        fresh, network = Stage(home, stage.endpoints, stage.fabric_ca_client), Network(dies_after)
        with pytest.raises(CutShort):
            await _staff_joins(fresh, network, monkeypatch)
        proofs = await _staff_joins(fresh, network, monkeypatch)
        assert [proof.split(":")[0] for proof in proofs] == [
            "mercy-administrator",
            "lakeside-administrator",
            "mercy-clinician",
            "lakeside-clinician",
            "mercy-engine",
        ], dies_after
        assert len(network.identities) == len(proofs), dies_after


async def test_what_is_told_again_changes_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    await _staff_joins(stage, network, monkeypatch)
    before = network.left
    await _staff_joins(stage, network, monkeypatch)
    assert network.left == before


async def test_to_approve_who_is_active_or_has_this_members_vote_is_done_already(stage: Stage) -> None:
    network = Network()
    reviewer: Any = Client(network, stage.wallet("ann", "mercy", pb.ROLE_ADMINISTRATOR), "mercy")
    pending = IdentityDocument(address="cb1x", status=state_pb2.IDENTITY_STATUS_PENDING)
    network.identities["cb1x"] = pending
    await cast.approve(reviewer, "cb1x")
    assert [vote.msp for vote in pending.reviews] == ["MercyMSP"]
    await cast.approve(reviewer, "cb1x")
    pending.status = state_pb2.IDENTITY_STATUS_ACTIVE
    await cast.approve(reviewer, "cb1x")
    assert len(pending.reviews) == 1
