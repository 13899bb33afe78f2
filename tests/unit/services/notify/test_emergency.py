"""What was opened before the channel could tell is told by the clinician's own signed word."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.channel import Channel
from services.notify.domain import announce
from services.notify.emergency import OPENED, EmergencyServicer
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.notify.notices import Identity, Notification
from services.notify.schema import MIGRATIONS
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.channel import CHANNEL, REUSED_NAME
from tests.support.fakes.notify_events import (
    LAKESIDE_ADMIN,
    MERCY_ADMIN,
    MERCY_OFFICER,
    PATIENT,
    entry,
    event,
    identity,
)

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
RECORD = "01890000-0000-7000-8000-000000000001"


class Mercy:
    """Mercy's notify service, whose ledger knows a clinician and a patient."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox, self.feeds = inbox, Feeds(Metrics("notify"))
        self.clinician = command.KeySigner(signature.new_private_key())
        self.people = {
            self.clinician.address: state_pb2.IdentityDocument(
                address=self.clinician.address,
                role=pb.ROLE_CLINICIAN,
                home_msp="MercyMSP",
                signing_public_key=signature.spki(self.clinician.private_key.public_key()),
            ),
            PATIENT: state_pb2.IdentityDocument(address=PATIENT, role=pb.ROLE_PATIENT, home_msp="MercyMSP"),
        }
        self.servicer = EmergencyServicer(
            *(self.inbox, self.feeds, self, Metrics("notify"), lambda: NOW_MS),
            channel=CHANNEL,
            home="MercyMSP",
        )

    async def identity(self, address: str) -> state_pb2.IdentityDocument | None:
        return self.people.get(address)

    def emergency(self, by: command.KeySigner | None = None, **changes: object) -> pb.SignedCommand:
        body = pb.EmergencyAccess(glass=pb.BreakGlass(patient=PATIENT, record_id=RECORD, version=2))
        header = {"channel": CHANNEL, "now_ms": NOW_MS} | changes
        signer = by or self.clinician
        return signer.sign_command(command.make_emergency(body, signer.address, **header))  # type: ignore[arg-type]

    async def refused(self, signed: pb.SignedCommand, code: int) -> None:
        with pytest.raises(MeshError) as caught:
            await self.servicer.tell(signed)
        assert caught.value.code == code
        assert await self.inbox_of(PATIENT) == []

    async def inbox_of(self, owner: str) -> list[Notification]:
        return await self.inbox.newest(owner, before=None, limit=10, unacknowledged_only=False)


@pytest.fixture
async def mercy(tmp_path: Path) -> AsyncIterator[Mercy]:
    async with Database(tmp_path / "inbox.db", MIGRATIONS) as database:
        inbox = Inbox(database)
        staff = [identity(one) for one in (MERCY_ADMIN, MERCY_OFFICER, LAKESIDE_ADMIN)]
        await inbox.keep([], staff, 5)
        yield Mercy(inbox)


async def test_the_patient_and_the_members_reviewers_hear_at_once_and_once(mercy: Mercy) -> None:
    signed = mercy.emergency()
    with mercy.feeds.listen(PATIENT) as feed:
        await mercy.servicer.tell(signed)
        await feed.woken()
    await mercy.servicer.tell(signed)

    (told,) = await mercy.inbox_of(PATIENT)
    notice = told.notice
    assert (notice.kind, notice.actor, notice.actor_msp) == (OPENED, mercy.clinician.address, "MercyMSP")
    assert (notice.record_id, notice.version, notice.purpose) == (RECORD, 2, "ETREAT")
    # Not on record yet, and it says so.
    assert (notice.tx_id, notice.block, notice.at_ms, notice.category) == ("", 0, NOW_MS, "")
    assert notice.command_id == command.parse(signed)[0].command_id
    for officer in (MERCY_ADMIN, MERCY_OFFICER):
        (told,) = await mercy.inbox_of(officer)
        assert (told.notice.kind, told.notice.subject) == (OPENED, PATIENT)
    assert await mercy.inbox_of(LAKESIDE_ADMIN) == []
    # How far the channel was told is another matter.
    assert await mercy.inbox.next_block() == 5


async def test_two_emergencies_are_two_notifications(mercy: Mercy) -> None:
    await mercy.servicer.tell(mercy.emergency())
    await mercy.servicer.tell(mercy.emergency(now_ms=NOW_MS + 1))
    assert len(await mercy.inbox_of(PATIENT)) == 2


async def test_nobody_is_told_on_storages_word_alone(mercy: Mercy) -> None:
    thief = command.KeySigner(signature.new_private_key())
    forged = mercy.emergency(thief)
    await mercy.refused(forged, code_pb2.CODE_UNKNOWN_SIGNER)
    forged.signer = mercy.clinician.address
    await mercy.refused(forged, code_pb2.CODE_BAD_SIGNATURE)


async def test_only_a_clinician_and_a_patient_of_this_member_are_told_of(mercy: Mercy) -> None:
    for address, field, other in (
        (PATIENT, "home_msp", "LakesideMSP"),
        (mercy.clinician.address, "home_msp", "LakesideMSP"),
        (mercy.clinician.address, "role", pb.ROLE_ENGINE),
    ):
        before = getattr(mercy.people[address], field)
        setattr(mercy.people[address], field, other)
        await mercy.refused(mercy.emergency(), code_pb2.CODE_FORBIDDEN)
        setattr(mercy.people[address], field, before)


async def test_what_is_old_from_elsewhere_or_no_emergency_is_not_told(mercy: Mercy) -> None:
    await mercy.refused(mercy.emergency(now_ms=NOW_MS - 30 * DAY_MS - 1), code_pb2.CODE_EXPIRED)
    await mercy.refused(mercy.emergency(now_ms=NOW_MS + 120_001), code_pb2.CODE_EXPIRED)
    await mercy.refused(mercy.emergency(channel=REUSED_NAME), code_pb2.CODE_WRONG_CHANNEL)
    elsewhere = Channel("elsewhere", CHANNEL.genesis_sha256)
    await mercy.refused(mercy.emergency(channel=elsewhere), code_pb2.CODE_WRONG_CHANNEL)
    glass = pb.BreakGlass(patient=PATIENT, record_id=RECORD, version=2)
    await mercy.refused(
        mercy.clinician.sign_command(command.make(glass, channel=CHANNEL)), code_pb2.CODE_INVALID
    )
    await mercy.refused(pb.SignedCommand(command=b"\xff"), code_pb2.CODE_INVALID)


def test_when_it_comes_on_record_the_patient_and_all_reviewers_hear_what_stands_against_it() -> None:
    clinician = Identity("cb1" + "k" * 32, pb.ROLE_CLINICIAN, "MercyMSP", state_pb2.IDENTITY_STATUS_ACTIVE, 1)
    recorded = entry(
        "emergency-access", MERCY_ADMIN, patient=PATIENT, objection=code_pb2.CODE_INACTIVE_SIGNER
    )
    recorded.signer = clinician.address
    staff = [identity(one) for one in (MERCY_ADMIN, MERCY_OFFICER)]
    told = announce(event(recorded), {PATIENT: identity(PATIENT)}, staff, [], "MercyMSP").notices
    assert [one.owner for one in told] == [PATIENT, MERCY_ADMIN, MERCY_OFFICER]
    assert {(one.kind, one.code, one.tx_id) for one in told} == {
        ("emergency.recorded", code_pb2.CODE_INACTIVE_SIGNER, "tx1")
    }
