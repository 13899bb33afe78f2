"""What is valid is the own peer's word, over TLS, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import Batch, BatchResult
from services.runtime.errors import MeshError
from services.storage.config import StorageConfig
from services.storage.decisions import Decisions
from services.storage.peer import OwnPeer
from tests.support import own_peer
from tests.support.blocks import CHAINCODE, CHANNEL, Network
from tests.support.pki import Consortium


class Mercy:
    """Mercy's peer, and storage's way to it."""

    def __init__(self, folder: Path) -> None:
        self.network = Network()
        self.blocks: dict[str, bytes] = {}
        self.peer = own_peer.OwnPeer(self.network, self.blocks)
        self.consortium = Consortium(folder / "pki")
        reader = self.network.mercy.issue("client")
        (folder / "reader.pem").write_bytes(reader.pem)
        (folder / "reader.key").write_bytes(
            reader.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        config = SimpleNamespace(
            msp_id="MercyMSP",
            channel=CHANNEL,
            chaincode=CHAINCODE,
            peer=SimpleNamespace(
                address=self.peer.address,
                tls_ca_file=self.consortium.members["mercy"].ca_file,
                tls_server_name="",
            ),
            fabric_identity=SimpleNamespace(
                certificate_file=folder / "reader.pem", key_file=folder / "reader.key"
            ),
        )
        self.own = OwnPeer(cast(StorageConfig, config))
        self.decisions = Decisions(
            self.own, lambda: 0, wait_seconds=0.1, max_age_seconds=600, max_skew_seconds=60
        )

    def commit(self, flag: int = 0, **more: Any) -> str:
        tx_id, envelope = self.network.transaction(Batch(), BatchResult(), **more)
        self.blocks[tx_id] = self.network.block(envelope, flag=flag).SerializeToString()
        return tx_id

    async def decided(self, tx_id: str) -> MeshError:
        """Why no key follows from a transaction: it holds no command at all."""
        (found,) = await self.decisions.grants([(tx_id, "command")])
        assert isinstance(found, MeshError)
        return found


@pytest.fixture
async def mercy(tmp_path: Path) -> AsyncIterator[Mercy]:
    mercy = Mercy(tmp_path)
    await mercy.peer.start(mercy.consortium.members["mercy"].issue("peer"))
    async with mercy.own:
        yield mercy
    await mercy.peer.stop()


async def test_a_transaction_is_proven_from_the_own_peers_block_and_the_channels_configuration(
    mercy: Mercy,
) -> None:
    why = await mercy.decided(mercy.commit())
    assert "holds no verdict about that command" in why.reason
    trust = await mercy.own.trust()
    assert trust.member_roots == mercy.network.trust.member_roots


async def test_what_the_own_peer_found_invalid_releases_nothing_whatever_the_blocks_flags_say(
    mercy: Mercy,
) -> None:
    tx_id = mercy.commit(flag=0)
    mercy.peer.invalid.add(tx_id)
    why = await mercy.decided(tx_id)
    assert (why.code, "found the transaction invalid" in why.reason) == (code_pb2.CODE_FORBIDDEN, True)


async def test_what_the_own_peer_has_not_committed_is_not_there(mercy: Mercy) -> None:
    assert (await mercy.decided("ab" * 32)).code == code_pb2.CODE_NOT_FOUND


async def test_a_member_that_joined_is_known_at_once_when_a_proof_needs_it(mercy: Mercy) -> None:
    """What was endorsed by peers of a root that the configuration names only now."""
    await mercy.own.trust()
    after = Network()
    mercy.network.peers = after.peers
    tx_id = mercy.commit()
    assert "endorsements" in (await mercy.decided(tx_id)).reason

    after.ordering, after.mercy.msp_id = mercy.network.ordering, "MercyMSP"
    config = own_peer.config_block(after)
    mercy.peer.config = config
    # The creator is of the old root: only the endorsers are looked at here.
    assert "endorsements" not in (await mercy.decided(tx_id)).reason


async def test_a_peer_that_is_away_is_unavailable(mercy: Mercy) -> None:
    tx_id = mercy.commit()
    await mercy.peer.stop()
    assert (await mercy.decided(tx_id)).code == code_pb2.CODE_UNAVAILABLE
