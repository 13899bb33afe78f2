"""A record opened while no majority is to be had: the one exception to *no plaintext without a committed
entry*. docs/adr/0029-emergency-without-a-majority.md has its bounds.

The own peer's chaincode decides, by the rules by which the channel will; what was decided is on the disk
before the key leaves, and never leaves the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import EmergencyCharge, EmergencyDecision
from cbmdhi.protocol import command, registration, signature
from services.runtime.errors import MeshError
from services.runtime.keyed_locks import KeyedLocks
from services.runtime.revocations import Revocations
from services.storage.domain import emergency
from services.storage.domain.decision import ReadGrant
from services.storage.domain.emergency import Emergency
from services.storage.emergency.log import EmergencyLog, Keeping
from services.storage.metrics import StorageMetrics
from services.storage.release.key_release import Entitled, KeyRelease
from services.storage.release.record_opener import OpenedRecord, RecordOpener
from services.storage.release.writer_key_opener import Wanted, WriterKeyOpener

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


class State(Protocol):
    """The state at the own peer (`channel_state.ChannelState`), or a fake."""

    async def decide_emergency(
        self, signed: SignedCommand, charges: Sequence[EmergencyCharge]
    ) -> EmergencyDecision:
        """What the own peer's chaincode says to it. Raises MeshError."""
        ...


class EmergencyOpener:
    """Opens records of the own member's patients for its own clinicians, by their signed word.

    kept_now          called when one more is kept
    max_skew_seconds  by which a command may be dated ahead
    """

    def __init__(
        self,
        own_msp: str,
        revocations: Revocations,
        state: State,
        kept: EmergencyLog,
        opening: RecordOpener,
        unwrapping: WriterKeyOpener,
        releasing: KeyRelease,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
        *,
        kept_now: Callable[[], None],
        max_skew_seconds: float,
    ) -> None:
        self._own_msp = own_msp
        self._revocations = revocations
        self._state = state
        self._kept = kept
        self._opening = opening
        self._unwrapping = unwrapping
        self._releasing = releasing
        self._metrics = metrics
        self._now_ms = now_ms
        self._kept_now = kept_now
        self._max_skew_ms = int(max_skew_seconds * 1000)
        self._locks = KeyedLocks()

    async def open(self, signed: SignedCommand) -> OpenedRecord:
        """Raises MeshError CONFLICT (a majority is there, or released before), other refusals of the own
        peer's chaincode, NOT_FOUND (no key), INTEGRITY, UNAVAILABLE (also when it cannot be kept)."""
        try:
            opened = await self._open(signed)
        except MeshError as err:
            outcome = "refused" if err.code in _REFUSED else "failed"
            self._metrics.emergencies.labels(outcome).inc()
            raise
        self._metrics.emergencies.labels("opened").inc()
        return opened

    async def _open(self, signed: SignedCommand) -> OpenedRecord:
        try:
            asked = emergency.of_command(signed)
            emergency.check_fresh(
                asked,
                now_ms=self._now_ms(),
                max_age_ms=MAX_AGE_SECONDS * 1000,
                max_skew_ms=self._max_skew_ms,
            )
        except emergency.NotAnEmergency as error:
            raise MeshError(code_pb2.CODE_INVALID, error.reason, "command") from error
        async with self._locks.hold(asked.clinician):
            charges = await self._kept.charges(asked.clinician)
            decision = await self._state.decide_emergency(signed, charges)
            self._check(asked, decision)
            opened = await self._prepare(asked, decision)
            # From here on it stands on this member's disk; the key leaves after that alone.
            keeping = await self._kept.keep(asked, self._now_ms(), len(charges))
        if keeping is Keeping.THERE:
            raise MeshError(
                code_pb2.CODE_CONFLICT, "the key was released on this command already; sign a new one"
            )
        if keeping is Keeping.CHANGED:
            raise MeshError(
                code_pb2.CODE_UNAVAILABLE,
                "more was opened meanwhile; send the same command again",
                retry_after_ms=100,
            )
        _log.warning("emergency.opened", count=len(charges) + 1)
        self._kept_now()
        return opened

    def _check(self, asked: Emergency, decision: EmergencyDecision) -> None:
        """What the chaincode says; and by storage itself, whose keys sign and whose patient it is."""
        verdict, record = decision.verdict, decision.record
        refused = verdict.objection if verdict.code == code_pb2.CODE_OK else verdict.code
        if refused != code_pb2.CODE_UNSPECIFIED or not decision.HasField("record"):
            raise MeshError(refused or code_pb2.CODE_INTERNAL, verdict.reason, verdict.path)
        named = (asked.clinician, asked.patient, asked.patient, asked.record_id, asked.version)
        people = decision.clinician.address, decision.patient.address
        if named != (*people, record.patient, record.record_id, record.version):
            raise MeshError(code_pb2.CODE_INTERNAL, "the own peer decided about something else; ask again")
        try:
            registration.check_keys(decision.clinician, decision.registration)
            command.verify(asked.signed, decision.clinician.signing_public_key)
        except registration.NotCertified as error:
            raise MeshError(
                code_pb2.CODE_INTEGRITY, "the clinician's keys are not those of the registration"
            ) from error
        except signature.BadSignature as error:
            raise MeshError(
                code_pb2.CODE_BAD_SIGNATURE, "the command is not signed by the clinician's registered key"
            ) from error
        if {decision.patient.home_msp, decision.clinician.home_msp} != {self._own_msp}:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN, "without a majority a member opens records of its own patients alone"
            )
        # Suspended they cannot be while there is no majority.
        self._revocations.check(decision.clinician.home_msp, decision.clinician.address)

    async def _prepare(self, asked: Emergency, decision: EmergencyDecision) -> OpenedRecord:
        """Envelope and sealed data key, by keys that this member holds: no other is asked for any."""
        record = decision.record
        custodians = tuple(one.msp for one in decision.patient.custodians)
        wanted = Wanted(record, custodians)
        key = (await self._unwrapping.writer_keys([wanted]))[wanted.place]
        if isinstance(key, MeshError):
            raise key
        blocks, header = await self._opening.envelope(record)
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
        entitled = Entitled(grant, custodians, decision.clinician.hpke_public_key)
        return OpenedRecord(blocks, self._releasing.sealed(entitled, header, key), self._own_msp, record)
