"""`cbmdhi revoke` says what it did, and begins nothing that it cannot end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cbmdhi.cli.main import app
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.wallet import Wallet
from ops.cli import revoke
from ops.devnet import first_administrator

ADDRESS = "cb1" + "a" * 32


def consortium(folder: Path) -> Path:
    gateway = {"grpc": "127.0.0.1:1", "first_contact": "127.0.0.1:2", "rest": "https://127.0.0.1:3"}
    members = [
        {"msp_id": f"{name.title()}MSP", "name": name, "gateway": gateway}
        | dict.fromkeys(("ca_pem", "tls_ca_pem", "vault_public_key"), "")
        for name in ("mercy", "lakeside")
    ]
    document = {"version": 1, "channel": "c", "genesis_sha256": "ab" * 32, "chaincode": "c"}
    orderers = [{"msp_id": "OrderingMSP", "ca_pem": "", "tls_ca_pem": ""}]
    path = folder / "consortium.json"
    path.write_text(json.dumps(document | {"members": members, "orderers": orderers}))
    return path


def revoking(home: Path, member: str, role: pb.Role) -> Result:
    """Of somebody of mercy's, with a wallet of that member."""
    wallet = Wallet.create(home / "wallets" / "mine", consortium(home), member, role)
    arguments = ["revoke", "mercy", ADDRESS, "--wallet", str(wallet.folder), "--home", str(home)]
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("member", "role"), [("lakeside", pb.ROLE_ADMINISTRATOR), ("mercy", pb.ROLE_CLINICIAN)]
)
def test_a_wallet_that_the_channel_would_refuse_begins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, role: pb.Role
) -> None:
    begun: list[object] = []
    monkeypatch.setattr(revoke, "_at_the_authority", lambda *of: begun.append(of))
    done = revoking(tmp_path, member, role)
    assert (done.exit_code, begun) == (1, [])
    assert "FORBIDDEN" in done.output
    assert "nothing was done" in " ".join(done.output.split())


def test_what_was_done_before_a_failure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_the_authority(*of: object) -> None:
        told = of[-1]
        assert isinstance(told, list)
        told.append("revoked at the Fabric CA")

    def on_the_channel(*_: object) -> None:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "the gateway is away")

    monkeypatch.setattr(revoke, "_at_the_authority", at_the_authority)
    monkeypatch.setattr(revoke, "_on_the_channel", on_the_channel)
    done = revoking(tmp_path, "mercy", pb.ROLE_ADMINISTRATOR)
    told = " ".join(done.output.split())
    assert done.exit_code == 1
    assert "the gateway is away; but it is revoked at the Fabric CA already" in told


class Channel:
    """Somebody's identity on it."""

    def __init__(self, status: state_pb2.IdentityStatus) -> None:
        self.status = status

    async def suspend(self, address: str, reason_code: str) -> Receipt:
        if self.status != state_pb2.IDENTITY_STATUS_ACTIVE:
            raise MeshError(code_pb2.CODE_CONFLICT, "not active")
        self.status = state_pb2.IDENTITY_STATUS_SUSPENDED
        return Receipt(block=7)

    async def identity(self, address: str) -> state_pb2.IdentityDocument:
        return state_pb2.IdentityDocument(address=address, status=self.status)


async def test_who_is_suspended_already_is_no_failure_and_who_was_never_active_is() -> None:
    channel = Channel(state_pb2.IDENTITY_STATUS_ACTIVE)
    assert await revoke.suspended(channel, ADDRESS, "left") == (7, False)
    assert await revoke.suspended(channel, ADDRESS, "left") == (0, True)
    with pytest.raises(MeshError):
        await revoke.suspended(Channel(state_pb2.IDENTITY_STATUS_PENDING), ADDRESS, "left")


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (f"Response from server: Error Code: 10 - Identity {ADDRESS} was not found", code_pb2.CODE_NOT_FOUND),
        ("Response from server: Error Code: 20 - Authentication failure", code_pb2.CODE_UNAVAILABLE),
    ],
)
def test_whom_the_ca_does_not_know_is_not_found(tmp_path: Path, says: str, code: int) -> None:
    program = tmp_path / "fabric-ca-client"
    program.write_text(f"#!/bin/sh\necho 'Error: {says}' >&2\nexit 1\n")
    program.chmod(0o755)
    (tmp_path / "file").write_text("")
    registrar = dict.fromkeys(("certificate_file", "key_file", "tls_file"), str(tmp_path / "file"))
    registrar |= {"fabric_ca_url": "https://127.0.0.1:1", "ca_name": "ca"}
    with pytest.raises(MeshError) as caught:
        first_administrator.revoke(registrar, program, ADDRESS, "keycompromise")
    assert caught.value.code == code
    if code == code_pb2.CODE_NOT_FOUND:
        assert "Response from server" not in caught.value.reason
        assert ADDRESS not in caught.value.reason
