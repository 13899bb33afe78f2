"""Opened without a majority: by the clinician's signed word, for an own patient, once, on the disk first."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry, EmergencyCharge, EmergencyDecision, Verdict
from cbmdhi.protocol import command
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.runtime.tasks import end
from services.storage.emergency import recorder as recorder_module
from services.storage.emergency.log import EmergencyLog, LogOutcome
from services.storage.emergency.opener import EmergencyOpener
from services.storage.emergency.recorder import EmergencyRecorder
from services.storage.release.record_opener import OpenedRecord
from services.storage.schema import MIGRATIONS
from tests.support.channel import CHANNEL
from tests.support.fakes.committed_channel import LAKESIDE, MERCY, Person, decrypt, item
from tests.support.fakes.storage_member import Hospital
from tests.support.fakes.two_storages import World
from tests.support.waiting import until


class OwnPeer:
    """The own peer's chaincode, as far as storage asks it.

    says       its verdict; chaincode/batch/handle_emergency_access_test.go tests the rules
    entries    audit entries by command id and signer
    is_still   no majority is to be had
    """

    def __init__(self, hospital: Hospital, world: World) -> None:
        self._hospital, self._world = hospital, world
        self.says = Verdict(code=code_pb2.CODE_OK)
        self.charged: list[int] = []
        self.entries: dict[tuple[str, str], AuditEntry] = {}
        self.is_still = True
        self.down = False
        self.change: Callable[[EmergencyDecision], None] = lambda _: None

    async def decide_emergency(
        self, signed: pb.SignedCommand, charges: Sequence[EmergencyCharge]
    ) -> EmergencyDecision:
        self._answer()
        self.charged.append(len(charges))
        if self.says.code != code_pb2.CODE_OK or self.says.objection:
            return EmergencyDecision(verdict=self.says)
        channel = self._world.channel
        glass = command.parse(signed)[1].emergency_access.glass
        decision = EmergencyDecision(
            verdict=self.says,
            clinician=channel.identities[signed.signer],
            registration=channel.registrations[signed.signer],
            patient=channel.identities[glass.patient],
            record=channel.records[glass.record_id, glass.version],
        )
        self.change(decision)
        return decision

    async def newest_epoch(self) -> int:
        self._answer()
        return self._hospital.clock_ms() // 60_000 - (2 if self.is_still else 0)

    async def audit_entries(self, commands: Sequence[tuple[str, str]]) -> list[AuditEntry | None]:
        self._answer()
        return [self.entries.get(one) for one in commands]

    def _answer(self) -> None:
        if self.down:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "the peer is away")


class Neighbours:
    """The own ledger, which commits what it carries when it likes, and the own notify service."""

    def __init__(self, peer: OwnPeer) -> None:
        self._peer = peer
        self.carried: list[pb.SignedCommand] = []
        self.told: list[pb.SignedCommand] = []
        self.answers: list[MeshError | None] = []
        self.commits = True
        self.refuses_to_tell = False
        self.telling, self.most_telling = 0, 0
        self.objection = code_pb2.CODE_UNSPECIFIED

    async def submit(self, commands: Sequence[pb.SignedCommand]) -> None:
        self.carried += commands
        if self.commits:
            for signed in commands:
                header, _ = command.parse(signed)
                self._peer.entries[header.command_id, signed.signer] = AuditEntry(
                    command_id=header.command_id,
                    code=code_pb2.CODE_OK,
                    objection=self.objection,
                    command_sha256=hashlib.sha256(signed.command).digest(),
                )
        if self.answers and (error := self.answers.pop(0)) is not None:
            raise error

    async def tell(self, signed: pb.SignedCommand) -> None:
        self.telling += 1
        self.most_telling = max(self.most_telling, self.telling)
        # As long as it takes for others to begin.
        for _ in range(20):
            await asyncio.sleep(0)
        self.telling -= 1
        if self.refuses_to_tell:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "notify is away")
        if signed not in self.told:
            self.told.append(signed)


class Ward:
    """Mercy's storage as it opens without a majority."""

    def __init__(self, world: World, hospital: Hospital, database: Database) -> None:
        self.world, self.hospital = world, hospital
        self.peer = OwnPeer(hospital, world)
        self.neighbours = Neighbours(self.peer)
        self.kept = EmergencyLog(database)
        self.metrics = hospital.metrics
        self.recorder = EmergencyRecorder(
            *(self.kept, self.peer, self.neighbours, self.neighbours, self.metrics, hospital.clock)
        )
        self.emergencies = EmergencyOpener(
            *(
                hospital.msp,
                hospital.revocations,
                self.peer,
                self.kept,
                hospital.opening,
                hospital.unwrapping,
            ),
            *(hospital.releasing, self.metrics, hospital.clock),
            wake_recorder=self.recorder.wake,
            max_skew_seconds=60,
        )

    async def open(self, signed: pb.SignedCommand) -> OpenedRecord:
        return await self.emergencies.open(signed)

    async def refused(self, signed: pb.SignedCommand, code: int) -> MeshError:
        before = await self.kept.unrecorded()
        with pytest.raises(MeshError) as caught:
            await self.emergencies.open(signed)
        assert caught.value.code == code, caught.value
        assert await self.kept.unrecorded() == before
        return caught.value


_later_ms = itertools.count()


def asked(clinician: Person, record: object, **changes: object) -> pb.SignedCommand:
    """An EmergencyAccess to a record, signed."""
    glass = pb.BreakGlass(
        patient=record.patient,  # type: ignore[attr-defined]
        record_id=record.record_id,  # type: ignore[attr-defined]
        version=record.version,  # type: ignore[attr-defined]
    )
    body = pb.EmergencyAccess(glass=glass, newest_epoch=1)
    # Signed in the same millisecond, two that say the same would be one.
    changes.setdefault("now_ms", time.time_ns() // 1_000_000 + next(_later_ms))
    raw = command.make_emergency(body, clinician.address, channel=CHANNEL, **changes)  # type: ignore[arg-type]
    return clinician.signer.sign_command(raw)


def command_id(signed: pb.SignedCommand) -> str:
    return command.parse(signed)[0].command_id


@pytest.fixture
async def ward(world: World, tmp_path: Path) -> AsyncIterator[Ward]:
    async with Database(tmp_path / "emergency.db", MIGRATIONS, can_be_rebuilt=False) as database:
        yield Ward(world, world.mercy, database)


async def test_the_home_hospital_opens_its_own_patients_record_for_its_own_clinician(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)

    opened = await ward.open(signed)

    assert decrypt(reader, opened, command_id(signed), record) == b"a finding"
    assert opened.released_by == MERCY
    assert ward.hospital.wire.asked == []
    (kept,) = await ward.kept.newest(10, unrecorded_only=True)
    assert (kept.signed, kept.told, kept.recorded_ms) == (signed, False, 0)
    assert ward.hospital.count("emergencies_total", outcome="opened") == 1


async def test_what_the_own_peers_chaincode_refuses_is_not_opened(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)
    for says in (
        Verdict(code=code_pb2.CODE_CONFLICT, path="epoch", reason="a majority is there"),
        Verdict(code=code_pb2.CODE_FORBIDDEN, reason="over the quota"),
        Verdict(code=code_pb2.CODE_INACTIVE_SIGNER, reason="suspended"),
    ):
        ward.peer.says = says
        error = await ward.refused(signed, says.code)
        assert (error.path, error.reason) == (says.path, says.reason)
    ward.peer.says = Verdict(code=code_pb2.CODE_OK, objection=code_pb2.CODE_FORBIDDEN)
    await ward.refused(signed, code_pb2.CODE_FORBIDDEN)
    ward.peer.down = True
    await ward.refused(signed, code_pb2.CODE_UNAVAILABLE)
    assert ward.hospital.count("emergencies_total", outcome="opened") == 0


async def test_another_members_patient_is_not_opened_whatever_the_peer_says(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)

    def of_lakeside(decision: EmergencyDecision) -> None:
        decision.patient.home_msp = LAKESIDE

    ward.peer.change = of_lakeside
    await ward.refused(asked(reader, record), code_pb2.CODE_FORBIDDEN)


async def test_a_clinician_of_another_member_opens_nothing(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    elsewhere = Ward(ward.world, ward.world.lakeside, ward.world.lakeside.database)
    await elsewhere.refused(asked(reader, record), code_pb2.CODE_FORBIDDEN)


async def test_whom_the_hospitals_ca_revoked_opens_nothing_though_the_channel_cannot_be_told(
    ward: Ward,
) -> None:
    thief, reader = ward.world.clinician(), ward.world.clinician()
    record = item(ward.world.patient().address)
    await ward.world.write(record)
    ward.world.revoke(thief, ward.hospital)

    await ward.refused(asked(thief, record), code_pb2.CODE_INACTIVE_SIGNER)
    assert await ward.open(asked(reader, record))


async def test_a_forged_signature_opens_nothing_whatever_the_peer_says(ward: Ward) -> None:
    reader, other, record = ward.world.clinician(), ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    forged = asked(other, record)
    forged.signer = reader.address
    await ward.refused(forged, code_pb2.CODE_BAD_SIGNATURE)


async def test_a_key_that_the_clinician_did_not_register_gets_nothing(ward: Ward) -> None:
    reader, thief, record = ward.world.clinician(), ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)

    def with_another_key(decision: EmergencyDecision) -> None:
        decision.clinician.hpke_public_key = thief.document.hpke_public_key

    ward.peer.change = with_another_key
    await ward.refused(asked(reader, record), code_pb2.CODE_INTEGRITY)


async def test_a_decision_about_another_record_is_not_taken(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)

    def of_another(decision: EmergencyDecision) -> None:
        decision.record.version = 2

    ward.peer.change = of_another
    await ward.refused(asked(reader, record), code_pb2.CODE_INTERNAL)


async def test_what_was_held_back_or_is_no_emergency_opens_nothing(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    now = ward.hospital.clock()
    await ward.refused(asked(reader, record, now_ms=now - 121_000), code_pb2.CODE_INVALID)
    await ward.refused(asked(reader, record, now_ms=now + 61_000), code_pb2.CODE_INVALID)
    access = pb.Access(patient=record.patient, record_id=record.record_id, version=1)
    await ward.refused(
        reader.signer.sign_command(command.make(access, channel=CHANNEL)), code_pb2.CODE_INVALID
    )
    delegated = asked(reader, record)
    delegated.delegation.delegation = b"somebody's"
    await ward.refused(delegated, code_pb2.CODE_INVALID)
    await ward.refused(pb.SignedCommand(command=b"\xff"), code_pb2.CODE_INVALID)
    # Of a field that is there twice the last counts; it all goes onto the channel.
    twice = pb.Command(channel="Erika Mustermann").SerializeToString() + asked(reader, record).command
    await ward.refused(reader.signer.sign_command(twice), code_pb2.CODE_INVALID)
    assert ward.peer.charged == []


async def test_a_command_releases_once(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)
    await ward.open(signed)
    await ward.refused(signed, code_pb2.CODE_CONFLICT)
    # Nor once it is on record.
    ward.peer.is_still = False
    assert await ward.recorder.settle() == 0
    await ward.refused(signed, code_pb2.CODE_CONFLICT)


async def test_only_one_of_two_that_come_at_once_is_carried_out(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)
    found = await asyncio.gather(ward.open(signed), ward.open(signed), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["MeshError", "OpenedRecord"]


async def test_no_key_leaves_when_the_disk_does_not_take_the_decision(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)

    async def full(*_: object) -> LogOutcome:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "database or disk is full")

    monkeypatch.setattr(ward.kept, "keep", full)
    await ward.refused(asked(reader, record), code_pb2.CODE_UNAVAILABLE)
    assert ward.hospital.count("emergencies_total", outcome="failed") == 1


async def test_a_disk_that_is_full_takes_no_decision(ward: Ward, tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk's end."""
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    async with Database(tmp_path / "full.db", MIGRATIONS, can_be_rebuilt=False) as database:
        pages = await database.row("PRAGMA page_count")
        assert pages is not None

        def limit(db: sqlite3.Connection) -> None:
            db.execute(f"PRAGMA max_page_count = {pages[0]}")

        await database.write(limit)
        full = Ward(ward.world, ward.hospital, database)
        bulky = asked(reader, record)
        raw = pb.Command.FromString(bulky.command)
        body = pb.CommandBody.FromString(raw.body)
        for _ in range(16):
            body.emergency_access.glass.sealed_reasons.add(reviewer=reader.address, sealed=bytes(1200))
        raw.body = body.SerializeToString()
        bulky = reader.signer.sign_command(raw.SerializeToString())
        await full.refused(bulky, code_pb2.CODE_UNAVAILABLE)


async def test_the_quota_counts_what_is_not_on_record_yet(ward: Ward) -> None:
    reader, patient = ward.world.clinician(), ward.world.patient()
    records = [item(patient.address) for _ in range(3)]
    await ward.world.write(*records)
    for record in records[:2]:
        await ward.open(asked(reader, record))
    await ward.open(asked(ward.world.clinician(), records[0]))
    ward.peer.is_still = False
    await ward.recorder.settle()
    await ward.open(asked(reader, records[2]))
    assert ward.peer.charged == [0, 1, 0, 0]


async def test_what_another_process_opened_meanwhile_is_counted_before_the_key_leaves(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    beside = Ward(ward.world, ward.hospital, ward.kept._database)
    decide = ward.peer.decide_emergency

    async def while_another_opens(
        signed: pb.SignedCommand, charges: Sequence[EmergencyCharge]
    ) -> EmergencyDecision:
        await beside.open(asked(reader, record))
        return await decide(signed, charges)

    ward.peer.decide_emergency = while_another_opens  # type: ignore[method-assign]
    with pytest.raises(MeshError) as caught:
        await ward.open(asked(reader, record))
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert len(await ward.kept.newest(10, unrecorded_only=True)) == 1


async def test_a_record_whose_keys_this_member_does_not_hold_is_not_opened(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient(LAKESIDE).address)
    await ward.world.write(record)
    async with ward.hospital.database.transaction() as connection:
        await connection.execute("DELETE FROM writer_key")
    await ward.refused(asked(reader, record), code_pb2.CODE_NOT_FOUND)
    assert ward.hospital.wire.asked == []


async def test_the_patient_is_told_at_once_and_it_goes_on_record_when_a_majority_is_back(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)

    async def is_told() -> bool:
        # And that is noted, so that who is told again is not told for want of that.
        kept = await ward.kept.newest(1, unrecorded_only=True)
        return bool(kept) and kept[0].told

    running = asyncio.create_task(ward.recorder.run())
    try:
        await ward.open(signed)
        await until(is_told)
        assert ward.neighbours.told == [signed]
        assert ward.neighbours.carried == []
        assert ward.hospital.count("emergencies_unrecorded_count") == 1
    finally:
        await end(running)
    ward.peer.is_still = False
    assert await ward.recorder.settle() == 0
    assert ward.neighbours.carried == [signed]
    assert ward.neighbours.told == [signed]
    (kept,) = await ward.kept.newest(10, unrecorded_only=False)
    assert kept.told
    assert kept.recorded_ms
    assert await ward.kept.newest(10, unrecorded_only=True) == []
    assert ward.hospital.count("emergencies_unrecorded_count") == 0


async def test_what_is_kept_stays_until_the_own_peer_has_it_whatever_the_ledger_answers(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    await ward.open(asked(reader, record))
    ward.peer.is_still = False
    ward.neighbours.commits = False
    for error in (
        None,
        MeshError(code_pb2.CODE_FORBIDDEN, "no"),
        MeshError(code_pb2.CODE_EXPIRED, "no"),
        MeshError(code_pb2.CODE_UNKNOWN_OUTCOME, "who knows"),
    ):
        ward.neighbours.answers = [error]
        assert await ward.recorder.settle() == 1
        assert len(await ward.kept.newest(10, unrecorded_only=True)) == 1
    ward.peer.down = True
    assert await ward.recorder.settle() == 1
    ward.peer.down = False
    # Its answer was lost, and it was committed all the same.
    ward.neighbours.commits = True
    ward.neighbours.answers = [MeshError(code_pb2.CODE_UNKNOWN_OUTCOME, "who knows")]
    await ward.recorder.settle()
    assert await ward.recorder.settle() == 0


async def test_another_command_under_the_same_id_is_not_taken_for_it(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)
    await ward.open(signed)
    ward.peer.entries[command_id(signed), reader.address] = AuditEntry(code=code_pb2.CODE_OK)
    assert await ward.recorder.settle() == 1


async def test_what_stands_against_it_on_the_channel_is_kept_beside_it(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    await ward.open(asked(reader, record))
    ward.peer.is_still, ward.neighbours.objection = False, code_pb2.CODE_INACTIVE_SIGNER
    assert await ward.recorder.settle() == 0
    (kept,) = await ward.kept.newest(10, unrecorded_only=False)
    assert kept.objection == code_pb2.CODE_INACTIVE_SIGNER


async def test_a_patient_who_could_not_be_told_is_told_later(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)
    await ward.open(signed)
    ward.neighbours.refuses_to_tell, ward.peer.is_still = True, False
    # It goes on record all the same, and is not forgotten for that.
    assert await ward.recorder.settle() == 1
    assert ward.neighbours.carried == [signed]
    ward.neighbours.refuses_to_tell = False
    assert await ward.recorder.settle() == 0
    assert (ward.neighbours.told, ward.neighbours.carried) == ([signed], [signed])


async def test_an_inbox_that_was_lost_is_told_again_until_the_channel_tells_it(ward: Ward) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)
    await ward.open(signed)
    await ward.recorder.settle()
    ward.neighbours.told.clear()
    await ward.recorder.settle()
    assert ward.neighbours.told == [signed]
    ward.peer.is_still = False
    await ward.recorder.settle()
    ward.neighbours.told.clear()
    await ward.recorder.settle()
    assert ward.neighbours.told == []


async def test_what_never_comes_on_record_is_in_nobodys_way(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_AT_ONCE", 2)
    reader, patient = ward.world.clinician(), ward.world.patient()
    records = [item(patient.address) for _ in range(5)]
    await ward.world.write(*records)
    signed = [asked(reader, record) for record in records]
    for one in signed:
        await ward.open(one)
    ward.peer.is_still, ward.neighbours.commits = False, False
    assert await ward.recorder.settle() == 1
    assert sorted(map(command_id, ward.neighbours.carried)) == sorted(map(command_id, signed))
    assert len(ward.neighbours.told) == 5


async def test_every_patient_is_told_also_while_the_own_peer_is_away(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_AT_ONCE", 2)
    reader, patient = ward.world.clinician(), ward.world.patient()
    records = [item(patient.address) for _ in range(5)]
    await ward.world.write(*records)
    for record in records:
        await ward.open(asked(reader, record))
    ward.peer.down = True
    assert await ward.recorder.settle() == 1
    assert len(ward.neighbours.told) == 5


@pytest.mark.parametrize("again", [False, True])
async def test_a_notify_service_that_hangs_keeps_a_few_waiting_at_a_time_and_not_each_for_the_one_before(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setattr(recorder_module, "_TOLD_AT_ONCE", 3, raising=False)
    reader, patient = ward.world.clinician(), ward.world.patient()
    records = [item(patient.address) for _ in range(8)]
    await ward.world.write(*records)
    for record in records:
        await ward.open(asked(reader, record))
    if again:
        await ward.recorder.settle()
        ward.neighbours.most_telling = 0
    ward.neighbours.refuses_to_tell, ward.peer.is_still = True, False
    await ward.recorder.settle()
    assert ward.neighbours.most_telling == 3
    assert len(ward.neighbours.carried) == 8


async def test_who_was_not_told_yet_is_told_before_others_are_told_again(ward: Ward) -> None:
    reader, patient = ward.world.clinician(), ward.world.patient()
    records = [item(patient.address) for _ in range(3)]
    await ward.world.write(*records)
    signed = [asked(reader, record) for record in records]
    for one in signed[:2]:
        await ward.open(one)
    await ward.recorder.settle()
    ward.neighbours.told.clear()
    await ward.open(signed[2])
    await ward.recorder.settle()
    assert ward.neighbours.told[0] == signed[2]
    assert len(ward.neighbours.told) == 3


async def test_a_restart_forgets_nothing(ward: Ward, tmp_path: Path) -> None:
    reader, record = ward.world.clinician(), item(ward.world.patient().address)
    await ward.world.write(record)
    signed = asked(reader, record)
    await ward.open(signed)
    async with Database(tmp_path / "emergency.db", MIGRATIONS, can_be_rebuilt=False) as database:
        again = Ward(ward.world, ward.hospital, database)
        await again.refused(signed, code_pb2.CODE_CONFLICT)
        again.peer.is_still = False
        assert await again.recorder.settle() == 0
        assert (again.neighbours.told, again.neighbours.carried) == ([signed], [signed])
