"""Opens a record while no majority of members answers.

This is the one exception to *no plaintext without a committed entry*; its limits are in
docs/adr/0029-emergency-without-a-majority.md. The chaincode of the own peer decides by the same rules as the
channel. The decision is on the disk before the key leaves, and is never removed.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import EmergencyDecision
from cbmdhi.protocol import command, registration, signature
from services.runtime.errors import MeshError
from services.runtime.keyed_locks import KeyedLocks
from services.runtime.revocations import Revocations
from services.storage.channel.state import ChannelState
from services.storage.domain import emergency
from services.storage.domain.decision import ReadGrant
from services.storage.domain.emergency import Emergency
from services.storage.emergency.log import EmergencyLog, LogOutcome
from services.storage.metrics import StorageMetrics
from services.storage.release.key_release import Entitlement, KeyRelease
from services.storage.release.record_opener import OpenedRecord, RecordOpener
from services.storage.release.writer_key_opener import WriterKeyOpener, WriterKeyRequest

_log = structlog.get_logger()

MAX_AGE_SECONDS = 120
_REFUSED = (
    code_pb2.CODE_CONFLICT,
    code_pb2.CODE_FORBIDDEN,
    code_pb2.CODE_INVALID,
    code_pb2.CODE_BAD_SIGNATURE,
    code_pb2.CODE_UNKNOWN_SIGNER,
    code_pb2.CODE_INACTIVE_SIGNER,
    code_pb2.CODE_NOT_FOUND,
    code_pb2.CODE_EXPIRED,
    code_pb2.CODE_WRONG_CHANNEL,
)


class EmergencyOpener:
    """Opens records of the own member's patients for its own clinicians, on their signed commands.

    wake_recorder     called when an entry was added to the log
    max_skew_seconds  how far a command may be dated ahead
    """

    def __init__(
        self,
        own_msp: str,
        revocations: Revocations,
        state: ChannelState,
        emergency_log: EmergencyLog,
        record_opener: RecordOpener,
        writer_key_opener: WriterKeyOpener,
        key_release: KeyRelease,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
        *,
        wake_recorder: Callable[[], None],
        max_skew_seconds: float,
    ) -> None:
        self._own_msp = own_msp
        self._revocations = revocations
        self._state = state
        self._emergency_log = emergency_log
        self._record_opener = record_opener
        self._writer_key_opener = writer_key_opener
        self._key_release = key_release
        self._metrics = metrics
        self._now_ms = now_ms
        self._wake_recorder = wake_recorder
        self._max_skew_ms = int(max_skew_seconds * 1000)
        self._locks = KeyedLocks()

    async def open(self, signed: SignedCommand) -> OpenedRecord:
        """The record of a signed EmergencyAccess.

        Raises MeshError CONFLICT (there is a majority, or the key was released before), other refusals of
        the own peer's chaincode, NOT_FOUND (no key), INTEGRITY, UNAVAILABLE (also: no log).
        """
        try:
            opened = await self._open(signed)
        except MeshError as err:
            outcome = "refused" if err.code in _REFUSED else "failed"
            self._metrics.emergencies.labels(outcome).inc()
            raise
        self._metrics.emergencies.labels("opened").inc()
        return opened

    async def _open(self, signed: SignedCommand) -> OpenedRecord:
        asked = emergency.of_command(signed)
        emergency.check_fresh(
            asked,
            now_ms=self._now_ms(),
            max_age_ms=MAX_AGE_SECONDS * 1000,
            max_skew_ms=self._max_skew_ms,
        )
        async with self._locks.hold(asked.clinician):
            charges = await self._emergency_log.charges(asked.clinician)
            decision = await self._state.decide_emergency(signed, charges)
            self._check(asked, decision)
            opened = await self._prepare(asked, decision)
            # The key may leave only when the decision is on this member's disk.
            outcome = await self._emergency_log.keep(asked, self._now_ms(), len(charges))
        if outcome is LogOutcome.THERE:
            raise MeshError.conflict("the key was released on this command already; sign a new one")
        if outcome is LogOutcome.CHANGED:
            raise MeshError.unavailable(
                "more was opened meanwhile; send the same command again", retry_after_ms=100
            )
        _log.warning("emergency.opened", count=len(charges) + 1)
        self._wake_recorder()
        return opened

    def _check(self, asked: Emergency, decision: EmergencyDecision) -> None:
        """Check the chaincode's verdict, and here the signature, the keys and the home of both people."""
        verdict, record = decision.verdict, decision.record
        refused = verdict.objection if verdict.code == code_pb2.CODE_OK else verdict.code
        if refused != code_pb2.CODE_UNSPECIFIED or not decision.HasField("record"):
            raise MeshError(refused or code_pb2.CODE_INTERNAL, verdict.reason, verdict.path)
        named = (asked.clinician, asked.patient, asked.patient, asked.record_id, asked.version)
        people = decision.clinician.address, decision.patient.address
        if named != (*people, record.patient, record.record_id, record.version):
            raise MeshError.internal("the own peer decided about something else; ask again")
        try:
            registration.check_keys(decision.clinician, decision.registration)
            command.verify(asked.signed, decision.clinician.signing_public_key)
        except registration.NotCertified as error:
            raise MeshError.integrity("the clinician's keys are not those of the registration") from error
        except signature.BadSignature as error:
            raise MeshError.bad_signature(
                "the command is not signed by the clinician's registered key"
            ) from error
        if {decision.patient.home_msp, decision.clinician.home_msp} != {self._own_msp}:
            raise MeshError.forbidden("without a majority a member opens records of its own patients alone")
        # Nobody can be suspended without a majority, but a CA can revoke.
        self._revocations.check(decision.clinician.home_msp, decision.clinician.address)

    async def _prepare(self, asked: Emergency, decision: EmergencyDecision) -> OpenedRecord:
        """Envelope and sealed data key, with the keys of this member. No other member is asked."""
        record = decision.record
        custodians = tuple(one.msp for one in decision.patient.custodians)
        wanted = WriterKeyRequest(record, custodians)
        key = (await self._writer_key_opener.writer_keys([wanted]))[wanted.place]
        if isinstance(key, MeshError):
            raise key
        blocks, header = await self._record_opener.envelope(record)
        grant = ReadGrant(
            reader=asked.clinician,
            actor=asked.clinician,
            action="",
            purpose="ETREAT",
            patient=asked.patient,
            record_id=asked.record_id,
            version=asked.version,
            command_id=asked.command_id,
            decided_at_ms=asked.issued_at_ms,
            record=record,
        )
        entitled = Entitlement(grant, custodians, decision.clinician.hpke_public_key)
        return OpenedRecord(blocks, self._key_release.sealed(entitled, header, key), self._own_msp, record)
