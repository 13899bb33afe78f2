"""Delegations to this gateway's device, for as long as their sessions last. In memory alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Delegation, SignedDelegation
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol.channel import Channel
from services.gateway.domain import group as rules
from services.gateway.domain.refusal import Refused
from services.gateway.domain.session import Session
from services.gateway.metrics import GatewayMetrics
from services.runtime.remembered import Remembered

_MAX_LIFETIME_MS = 12 * 60 * 60 * 1000
_LONGEST_SECONDS = 12 * 60 * 60.0


class Delegations:
    """By session. Raises Refused."""

    def __init__(
        self,
        *,
        device: str,
        channel: Channel,
        most: int,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._device = device
        self._channel = channel
        self._metrics = metrics
        self._clock = clock
        self._kept: Remembered[tuple[str, str], SignedDelegation] = Remembered(most, seconds=_LONGEST_SECONDS)

    def check(self, signed: SignedDelegation, delegator: IdentityDocument) -> None:
        """That it is the delegator's, to this device, on this channel, now. Raises Refused."""
        try:
            delegation = Delegation.FromString(signed.delegation)
        except DecodeError as error:
            raise Refused(
                code_pb2.CODE_INVALID, "the bytes are not a serialized Delegation", "delegation"
            ) from error
        if delegation.delegator != delegator.address:
            raise Refused(
                code_pb2.CODE_FORBIDDEN, "the delegation is not of who logs in", "delegation.delegator"
            )
        if delegation.delegate != self._device:
            raise Refused(
                code_pb2.CODE_FORBIDDEN,
                "the delegation is made out to another device: the challenge names this one",
                "delegation.delegate",
            )
        rules.check_delegation_channel(delegation, self._channel)
        lifetime = delegation.expires_at_ms - delegation.issued_at_ms
        if delegation.expires_at_ms <= self._clock() * 1000 or not 0 < lifetime <= _MAX_LIFETIME_MS:
            raise Refused(
                code_pb2.CODE_EXPIRED,
                "the delegation has expired or is for more than 12 hours: sign a new one",
                "delegation.expires_at_ms",
            )
        if delegation.issued_at_ms <= delegator.suspended_at_ms:
            raise Refused(
                code_pb2.CODE_FORBIDDEN,
                "the delegation was signed before its delegator's suspension: sign a new one",
                "delegation.issued_at_ms",
            )
        rules.check_delegation_signature(signed.delegation, signed.signature, delegator)

    def keep(self, session: Session, signed: SignedDelegation) -> None:
        """Keep it for this session."""
        self._kept.put((session.address, session.token_id), signed)
        self._metrics.delegations.set(len(self._kept))

    def forget(self, session: Session) -> None:
        """The session is over: nothing more is done within it here, whatever the channel still allows."""
        self._kept.forget((session.address, session.token_id))
        self._metrics.delegations.set(len(self._kept))

    def of(self, session: Session) -> SignedDelegation | None:
        """What the session's person lets the device do; None when nothing."""
        return self._kept.get((session.address, session.token_id))
