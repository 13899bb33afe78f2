"""Tells people of an emergency opening before it is on the channel, by the clinician's signed command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cbmdhi.command.v1.command_pb2 import ROLE_CLINICIAN, SignedCommand
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.channel import Channel
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.notify.notices import Identity, Notice
from services.runtime.callers import require_peer
from services.runtime.errors import MeshError
from services.runtime.registered import People
from services.runtime.telemetry import Metrics

OPENED = "emergency.opened"

_STORAGE = frozenset({"storage"})
# The chaincode records nothing older (chaincode/batch/authenticate.go).
_OLDEST_MS = 30 * 86_400_000
_AHEAD_MS = 120_000


class EmergencyServicer(notify_pb2_grpc.EmergencyServiceServicer):
    """EmergencyService. `home`: MSP id of the member whose people are told."""

    def __init__(
        self,
        inbox: Inbox,
        feeds: Feeds,
        people: People,
        metrics: Metrics,
        now_ms: Callable[[], int],
        *,
        channel: Channel,
        home: str,
    ) -> None:
        self._inbox = inbox
        self._feeds = feeds
        self._people = people
        self._now_ms = now_ms
        self._channel = channel
        self._home = home
        self._told = metrics.counter("emergencies_told", "Emergencies told before they were on record")

    async def Tell(self, request: notify_pb2.TellRequest, context: Any) -> notify_pb2.TellResponse:
        require_peer(context, services=_STORAGE)
        await self.tell(request.command)
        return notify_pb2.TellResponse()

    async def tell(self, signed: SignedCommand) -> None:
        """Put a notice into the inboxes of the patient and the member's reviewers, once. Raises MeshError."""
        notice = self._notice(signed)
        clinician, patient, staff = await asyncio.gather(
            self._people.identity(notice.actor), self._people.identity(notice.owner), self._inbox.staff()
        )
        self._check(signed, clinician, patient)
        officers = [one.address for one in staff if self._reviews(one, notice.actor)]
        notices = [notice._replace(actor_msp=self._home)]
        notices += [notices[0]._replace(owner=one, subject=notice.owner) for one in officers]
        kept = await self._inbox.keep(notices, [], 0)
        if kept:
            self._told.inc()
        self._feeds.wake({one.notice.owner for one in kept})

    def _reviews(self, one: Identity, clinician: str) -> bool:
        return one.home_msp == self._home and one.address != clinician

    def _notice(self, signed: SignedCommand) -> Notice:
        try:
            header, body = command.parse(signed)
        except command.MalformedCommand as error:
            raise MeshError.invalid("not a command with a body", "command") from error
        if not body.HasField("emergency_access") or signed.HasField("delegation"):
            raise MeshError.invalid("not an EmergencyAccess, signed in person", "command")
        if (header.channel, header.genesis_sha256) != (self._channel.name, self._channel.genesis_sha256):
            raise MeshError.wrong_channel("it was signed for another channel", "command")
        age_ms = self._now_ms() - header.issued_at_ms
        if not -_AHEAD_MS <= age_ms <= _OLDEST_MS:
            raise MeshError.expired("over 30 days old, or dated in the future", "command")
        glass = body.emergency_access.glass
        return Notice(
            owner=glass.patient,
            kind=OPENED,
            tx_id="",
            block=0,
            at_ms=header.issued_at_ms,
            actor=signed.signer,
            record_id=glass.record_id,
            version=glass.version,
            purpose="ETREAT",
            command_id=header.command_id,
        )

    def _check(
        self, signed: SignedCommand, clinician: IdentityDocument | None, patient: IdentityDocument | None
    ) -> None:
        """Check the signature and the members of both people, since storage is not trusted for them."""
        if clinician is None or patient is None:
            raise MeshError.unknown_signer("clinician or patient is not registered", "command")
        try:
            command.verify(signed, clinician.signing_public_key)
        except signature.BadSignature as error:
            raise MeshError.bad_signature(
                "not signed by the clinician's registered key", "command"
            ) from error
        if clinician.role != ROLE_CLINICIAN or {clinician.home_msp, patient.home_msp} != {self._home}:
            raise MeshError.forbidden("not of a clinician and a patient of this member", "command")
