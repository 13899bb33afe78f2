"""The gateway passes an emergency on, and adds nothing to it but one peer's evidence."""

from collections.abc import Sequence

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.gateway.v1.gateway_pb2 import ListEmergenciesRequest, ReadInEmergencyRequest
from cbmdhi.ledger.v1.ledger_pb2 import Evidence
from cbmdhi.protocol import command, signature
from cbmdhi.storage.v1 import storage_pb2
from services.gateway.domain.session import Session
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.rpc.emergency import Emergency
from services.gateway.rpc.routes import ROUTES
from services.runtime.errors import MeshError
from tests.support.channel import CHANNEL

PREFIX = "/cbmdhi.gateway.v1.RecordService/"


class Neighbours:
    """Storage, and the ledger."""

    def __init__(self) -> None:
        self.opened: list[pb.SignedCommand] = []
        self.proven: list[tuple[str, int]] = []
        self.refuses: MeshError | None = None
        self.proves = True

    async def open_in_emergency(self, signed: pb.SignedCommand) -> storage_pb2.OpenResponse:
        if self.refuses:
            raise self.refuses
        self.opened.append(signed)
        return storage_pb2.OpenResponse(sealed_data_key=b"sealed")

    async def standstill(self) -> storage_pb2.GetStandstillResponse:
        return storage_pb2.GetStandstillResponse(stands_still=True, newest_epoch=7)

    async def emergencies(self, *, unrecorded_only: bool) -> storage_pb2.ListEmergenciesResponse:
        return storage_pb2.ListEmergenciesResponse(emergencies=[storage_pb2.KeptEmergency(told=True)])

    async def prove_versions(
        self, places: Sequence[tuple[str, int]], *, own_peer_only: bool = False
    ) -> Evidence:
        assert own_peer_only
        if not self.proves:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "the peer is away")
        self.proven += places
        return Evidence(endorsed_state=b"endorsed")


class Way:
    def __init__(self) -> None:
        self.neighbours = Neighbours()
        self.emergency = Emergency(self.neighbours, self.neighbours, RefusalQuotas(1_000, 1_000), "MercyMSP")
        self.clinician = command.KeySigner(signature.new_private_key())

    def session(self, address: str = "", msp: str = "MercyMSP") -> Session:
        return Session(address or self.clinician.address, "clinician", msp, "", "jkt", "", 2**40)

    def signed(self) -> pb.SignedCommand:
        body = pb.EmergencyAccess(glass=pb.BreakGlass(record_id="a record", version=2))
        return self.clinician.sign_command(
            command.make_emergency(body, self.clinician.address, channel=CHANNEL)
        )


async def test_the_callers_own_word_is_passed_on_as_it_is() -> None:
    way = Way()
    signed = way.signed()
    answer = await way.emergency.read(ReadInEmergencyRequest(command=signed), way.session())
    assert (answer.opened.sealed_data_key, answer.evidence.endorsed_state) == (b"sealed", b"endorsed")
    assert (way.neighbours.opened, way.neighbours.proven) == ([signed], [("a record", 2)])


async def test_anothers_word_and_another_command_are_not() -> None:
    way = Way()
    stranger = way.session("cb1" + "s" * 32)
    access = way.clinician.sign_command(command.make(pb.Access(), channel=CHANNEL))
    for signed, session, code in (
        (way.signed(), stranger, code_pb2.CODE_FORBIDDEN),
        (access, way.session(), code_pb2.CODE_INVALID),
        (pb.SignedCommand(command=b"\xff"), way.session(), code_pb2.CODE_INVALID),
    ):
        with pytest.raises(MeshError) as caught:
            await way.emergency.read(ReadInEmergencyRequest(command=signed), session)
        assert caught.value.code == code
    assert way.neighbours.opened == []


async def test_what_storage_refuses_is_not_told() -> None:
    way = Way()
    way.neighbours.refuses = MeshError(code_pb2.CODE_FORBIDDEN, "another member's patient")
    with pytest.raises(MeshError) as caught:
        await way.emergency.read(ReadInEmergencyRequest(command=way.signed()), way.session())
    assert caught.value.reason == "another member's patient"


async def test_nothing_is_opened_that_could_not_be_shown() -> None:
    way = Way()
    way.neighbours.proves = False
    with pytest.raises(MeshError):
        await way.emergency.read(ReadInEmergencyRequest(command=way.signed()), way.session())
    assert way.neighbours.opened == []


async def test_this_members_own_reviewers_alone_see_what_it_opened() -> None:
    way = Way()
    answer = await way.emergency.list(ListEmergenciesRequest(), way.session())
    assert len(answer.emergencies) == 1
    with pytest.raises(MeshError) as caught:
        await way.emergency.list(ListEmergenciesRequest(), way.session(msp="LakesideMSP"))
    assert caught.value.code == code_pb2.CODE_FORBIDDEN
    assert ROUTES[f"{PREFIX}ListEmergencies"].roles == {"administrator", "privacy_officer"}
    assert ROUTES[f"{PREFIX}ReadInEmergency"].roles == {"clinician"}
