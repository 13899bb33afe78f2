"""What is valid is the own peer's word, over TLS, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import (
    AuditEntry,
    Batch,
    BatchResult,
    EmergencyCharge,
    EmergencyDecision,
    Epoch,
    Query,
    QueryResult,
    Verdict,
)
from cbmdhi.protocol.state_keys import audit_key
from services.runtime.errors import MeshError
from services.storage.channel.peer import OwnPeer
from services.storage.channel.state import ChannelState, stands_still
from services.storage.config import StorageConfig
from services.storage.release.decision_proofs import DecisionProofs
from tests.support.fakes import own_peer
from tests.support.fakes.fabric_blocks import CHAINCODE, CHANNEL, Network
from tests.support.pki import Consortium

_BAD_PROPOSAL_TXID, _MVCC_READ_CONFLICT = 8, 11


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
        self.decisions = DecisionProofs(
            self.own, lambda: 0, wait_seconds=0.1, max_age_seconds=600, max_skew_seconds=60
        )

    def commit(self, flag: int = 0, before: int = 0, **more: Any) -> str:
        """before: how a stranger's envelope under its id was found, which comes first in the block."""
        tx_id, envelope = self.network.transaction(Batch(), BatchResult(), **more)
        _, strangers = self.network.transaction(Batch(), BatchResult(), endorsers=[], under=tx_id)
        envelopes = (strangers, envelope) if before else (envelope,)
        flags = bytes((before, flag)[-len(envelopes) :])
        self.blocks[tx_id] = self.network.block(*envelopes, flags=flags).SerializeToString()
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
    mercy.peer.invalid[tx_id] = _MVCC_READ_CONFLICT
    why = await mercy.decided(tx_id)
    assert (why.code, "found the transaction invalid" in why.reason) == (code_pb2.CODE_FORBIDDEN, True)


async def test_a_strangers_envelope_under_its_id_does_not_make_a_decision_invalid(mercy: Mercy) -> None:
    tx_id = mercy.commit(before=_BAD_PROPOSAL_TXID)
    mercy.peer.invalid[tx_id] = _BAD_PROPOSAL_TXID  # of the first that bears the id
    assert "holds no verdict about that command" in (await mercy.decided(tx_id)).reason


async def test_an_id_under_which_nothing_is_valid_releases_nothing(mercy: Mercy) -> None:
    tx_id = mercy.commit(before=_BAD_PROPOSAL_TXID, flag=_MVCC_READ_CONFLICT)
    mercy.peer.invalid[tx_id] = _BAD_PROPOSAL_TXID
    why = await mercy.decided(tx_id)
    assert (why.code, "found the transaction invalid" in why.reason) == (code_pb2.CODE_FORBIDDEN, True)


async def test_what_the_own_peer_has_not_committed_is_not_there(mercy: Mercy) -> None:
    assert (await mercy.decided("ab" * 32)).code == code_pb2.CODE_NOT_FOUND


async def test_a_peer_that_stops_while_it_is_asked_does_not_say_that_there_is_no_such_transaction(
    mercy: Mercy,
) -> None:
    mercy.peer.waits = grpc.StatusCode.ABORTED
    assert (await mercy.decided("ab" * 32)).code == code_pb2.CODE_UNAVAILABLE


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


async def test_the_state_is_asked_of_the_own_peers_chaincode(mercy: Mercy) -> None:
    state = ChannelState(mercy.own)
    told = [Epoch(number=number).SerializeToString() for number in (30, 28, 29)]
    mercy.peer.answers = [QueryResult(values=told).SerializeToString()]
    newest = await state.newest_epoch()
    assert newest == 30
    assert not stands_still(newest, 32 * 60_000 - 1)
    assert stands_still(newest, 32 * 60_000)

    entry = AuditEntry(command_id="one", code=code_pb2.CODE_OK)
    mercy.peer.answers = [QueryResult(values=[entry.SerializeToString(), b""]).SerializeToString()]
    assert await state.audit_entries([("one", "cb1a"), ("two", "cb1b")]) == [entry, None]
    assert Query.FromString(mercy.peer.asked[-1]).get_keys.keys == [
        audit_key("one", "cb1a"),
        audit_key("two", "cb1b"),
    ]

    decision = EmergencyDecision(verdict=Verdict(code=code_pb2.CODE_FORBIDDEN))
    mercy.peer.answers = [QueryResult(emergency=decision).SerializeToString()]
    signed = SignedCommand(command=b"a command")
    charge = EmergencyCharge(patient="cb1p", opened_at_ms=1)
    assert await state.decide_emergency(signed, [charge]) == decision
    asked = Query.FromString(mercy.peer.asked[-1]).decide_emergency
    assert (asked.asked, list(asked.charges)) == (signed, [charge])


async def test_an_answer_that_does_not_fit_and_a_peer_that_is_away_are_no_state(mercy: Mercy) -> None:
    state = ChannelState(mercy.own)
    for answer in (QueryResult().SerializeToString(), b"\xff"):
        mercy.peer.answers = [answer]
        with pytest.raises(MeshError) as caught:
            await state.newest_epoch()
        assert caught.value.code == code_pb2.CODE_INTERNAL
    await mercy.peer.stop()
    with pytest.raises(MeshError) as caught:
        await state.newest_epoch()
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
