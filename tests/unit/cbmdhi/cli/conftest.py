"""A wallet of a network that does not run, and the command line as a person types it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cbmdhi.cli.main import app
from cbmdhi.wallet import Wallet
from tests.unit.cbmdhi.cli import printed

Typed = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    gateway = {"grpc": "127.0.0.1:1", "first_contact": "127.0.0.1:1", "rest": "https://127.0.0.1:1"}
    members = [
        {
            "msp_id": f"{name.title()}MSP",
            "name": name,
            "ca_pem": "",
            "tls_ca_pem": "",
            "vault_public_key": "",
            "gateway": gateway,
        }
        for name in ("mercy", "lakeside")
    ]
    document = {
        "version": 1,
        "channel": "cbmdhi",
        "genesis_sha256": "ab" * 32,
        "chaincode": "cbmdhi",
        "members": members,
        "orderers": [{"msp_id": "OrderingMSP", "ca_pem": "", "tls_ca_pem": ""}],
    }
    (tmp_path / "consortium.json").write_text(json.dumps(document))
    Wallet.create(tmp_path / "wallets" / "anna", tmp_path / "consortium.json", "mercy")
    return tmp_path


@pytest.fixture
def typed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command of anna's; gives its output (also of stderr) and status.

    Whatever command it tells a person to type next can be typed as it stands.
    """

    def run(*words: str, wallet: str = "anna") -> Result:
        arguments = [*words, "--home", str(home), *(("-w", wallet) if wallet else ())]
        monkeypatch.setattr(sys, "argv", ["cbmdhi", *arguments])
        told = CliRunner().invoke(app, arguments)
        printed.check(told)
        return told

    return run
