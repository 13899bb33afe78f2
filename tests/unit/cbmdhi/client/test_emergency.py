"""Opened without a majority: what the author signed is checked as ever, by the home member's peer alone."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from cbmdhi.client import emergency as emergency_module
from cbmdhi.client.connection import Connection
from cbmdhi.client.emergency import Emergency
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument, StoredContent
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import broken_glass, command, envelope, hpke, ids, signature
from cbmdhi.storage.v1.storage_pb2 import GetStandstillResponse, OpenResponse
from tests.support.channel import CHANNEL
from tests.support.fakes.evidence import PATIENT, Committed
from tests.support.fakes.fabric_blocks import CHAINCODE, Network

WRITER_KEY = bytes(32)
DAY_MS = 86_400_000


class Wallet:
    """A clinician of mercy."""

    def __init__(self, network: Network) -> None:
        self.signer = command.KeySigner(signature.new_private_key())
        self.hpke_private, self.hpke_public = hpke.generate()
        self.member = "MercyMSP"
        self.consortium = SimpleNamespace(
            channel="cbmdhi",
            chaincode=CHAINCODE,
            signed_channel=CHANNEL,
            members={
                one.msp_id: SimpleNamespace(ca_pem=one.pem) for one in (network.mercy, network.lakeside)
            },
            orderers=[],
        )

    @property
    def address(self) -> str:
        return self.signer.address

    def sign_command(self, raw: bytes) -> pb.SignedCommand:
        return self.signer.sign_command(raw)


class Mercy:
    """Mercy's gateway while its peer is alone. `forge` changes what it answers."""

    def __init__(self) -> None:
        self.committed = Committed()
        self.wallet = Wallet(self.committed.network)
        self.authenticated = grpc.aio.insecure_channel("127.0.0.1:1")
        self.standstill = GetStandstillResponse(stands_still=True, newest_epoch=7)
        self.endorsers = self.committed.network.peers[:1]
        self.content, self.salt = b"blood group A", envelope.new_salt()
        self.meant = b""
        self.asked: list[pb.SignedCommand] = []
        self.forge: Callable[[gateway_pb2.ReadInEmergencyResponse], None] = lambda _: None

    async def call(self, method: Any, request: Any) -> Any:
        if isinstance(request, gateway_pb2.GetStandstillRequest):
            return gateway_pb2.GetStandstillResponse(standstill=self.standstill)
        self.asked.append(request.command)
        header, body = command.parse(request.command)
        glass = body.emergency_access.glass
        place = envelope.Binding(glass.patient, glass.record_id, glass.version)
        sealed = envelope.seal(self.content, self.salt, place, "key", WRITER_KEY)
        blocks = [block for _, block in sealed.blocks]
        data_key = envelope.unwrap_data_key(envelope.header(blocks[0])[0], WRITER_KEY, place)
        record = self.committed.put(
            self.committed.person(),
            envelope.commitment(self.salt, self.content),
            record_id=glass.record_id,
            patient=glass.patient,
            stored=StoredContent(cid=sealed.cid),
            meant=self.meant,
        )
        reader = (self.wallet.address, header.command_id, glass.record_id, str(glass.version))
        opened = OpenResponse(
            blocks=blocks,
            sealed_data_key=hpke.seal(self.wallet.hpke_public, data_key, hpke.DATA_KEY, *reader),
            released_by="MercyMSP",
            record=record,
        )
        alone = self.committed.network.state(self.committed.values, endorsers=self.endorsers)
        answer = gateway_pb2.ReadInEmergencyResponse(
            opened=opened, evidence=self.committed.evidence(endorsed=alone)
        )
        self.forge(answer)
        return answer


@pytest.fixture
async def mercy(monkeypatch: pytest.MonkeyPatch) -> Mercy:
    officer = IdentityDocument(address="cb1" + "o" * 32, hpke_public_key=hpke.generate()[1])

    async def of_broken_glass(_: Connection) -> list[IdentityDocument]:
        return [officer]

    monkeypatch.setattr(emergency_module.reviewers, "of_broken_glass", of_broken_glass)
    return Mercy()


def emergency(mercy: Mercy) -> Emergency:
    return Emergency(cast(Connection, mercy))


async def refused(mercy: Mercy, code: int) -> None:
    with pytest.raises(MeshError) as caught:
        await emergency(mercy).open(PATIENT, "a record", 1, "unconscious")
    assert caught.value.code == code


async def test_the_clinician_signs_for_days_and_for_this_standstill_and_reads_what_the_author_signed(
    mercy: Mercy,
) -> None:
    reading = await emergency(mercy).open(PATIENT, "a record", 1, "unconscious")

    assert reading.content == b"blood group A"
    assert reading.proof.endorsers == ("MercyMSP",)
    (signed,) = mercy.asked
    header, body = command.parse(signed)
    assert (reading.command_id, signed.signer) == (header.command_id, mercy.wallet.address)
    assert header.command_id == ids.emergency_id(signed.signer, signed.command[76:])
    assert header.expires_at_ms - header.issued_at_ms == 30 * DAY_MS
    assert body.emergency_access.newest_epoch == 7
    assert broken_glass.reviewers(signed) == {"cb1" + "o" * 32}
    assert b"unconscious" not in signed.SerializeToString()


async def test_nothing_is_signed_while_the_channel_goes_on(mercy: Mercy) -> None:
    mercy.standstill.stands_still = False
    await refused(mercy, code_pb2.CODE_CONFLICT)
    with pytest.raises(MeshError) as caught:
        await emergency(mercy).open(PATIENT, "a record", 1, "curiosity")
    assert caught.value.code == code_pb2.CODE_INVALID
    assert mercy.asked == []


async def test_what_the_author_did_not_sign_is_not_shown(mercy: Mercy) -> None:
    mercy.meant = bytes(32)
    await refused(mercy, code_pb2.CODE_INTEGRITY)


async def test_another_content_than_the_committed_is_not_shown(mercy: Mercy) -> None:
    def exchange(answer: gateway_pb2.ReadInEmergencyResponse) -> None:
        *most, last = answer.opened.blocks[0]
        answer.opened.blocks[0] = bytes((*most, last ^ 1))

    mercy.forge = exchange
    await refused(mercy, code_pb2.CODE_INTEGRITY)


async def test_only_the_home_members_own_peer_is_believed_alone(mercy: Mercy) -> None:
    mercy.endorsers = mercy.committed.network.peers[1:]
    await refused(mercy, code_pb2.CODE_INTEGRITY)
    mercy.endorsers = [Network().mercy.issue("peer")]
    await refused(mercy, code_pb2.CODE_INTEGRITY)


async def test_what_comes_without_evidence_is_not_shown(mercy: Mercy) -> None:
    def without_evidence(answer: gateway_pb2.ReadInEmergencyResponse) -> None:
        answer.ClearField("evidence")

    mercy.forge = without_evidence
    await refused(mercy, code_pb2.CODE_INTEGRITY)
