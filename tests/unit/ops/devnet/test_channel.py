"""An orderer that just joined has no leader for a moment: an approval is sent again until it has one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ops.devnet import chaincode_package, channel
from ops.devnet.errors import CommandFailed
from ops.devnet.layout import Home
from ops.devnet.topology import MEMBERS, Ports

_REFUSED = "failed to send transaction: got unexpected status: SERVICE_UNAVAILABLE -- no Raft leader"


class Peer:
    """Fabric's `peer` command: a script that says why it fails, as often as there are reasons, and counts."""

    def __init__(self, folder: Path, *reasons: str) -> None:
        self._calls = folder / "calls"
        self.program = folder / "peer"
        cases = [
            f'{number}) echo "Error: {reason}" >&2; exit 1;;' for number, reason in enumerate(reasons, 1)
        ]
        count = f'echo call >> "{self._calls}"; case $(grep -c . "{self._calls}") in'
        self.program.write_text("\n".join(["#!/bin/sh", count, *cases, "esac", ""]))
        self.program.chmod(0o755)

    @property
    def calls(self) -> int:
        return len(self._calls.read_text().splitlines())


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Peer], None]:
    def approve(peer: Peer) -> None:
        monkeypatch.setattr(channel, "tool", lambda _: peer.program)
        monkeypatch.setattr(chaincode_package, "package_id", lambda *_: "cbmdhi_1:0")
        channel.approve(Home(tmp_path), MEMBERS[0], Ports(20_000))

    return approve


def test_an_approval_is_sent_again_until_the_orderers_have_a_leader(
    tmp_path: Path, approved: Callable[[Peer], None]
) -> None:
    peer = Peer(tmp_path, _REFUSED, _REFUSED)

    approved(peer)

    assert peer.calls == 3


def test_any_other_refusal_is_said_at_once(tmp_path: Path, approved: Callable[[Peer], None]) -> None:
    peer = Peer(tmp_path, "access denied")

    with pytest.raises(CommandFailed, match="access denied"):
        approved(peer)

    assert peer.calls == 1
