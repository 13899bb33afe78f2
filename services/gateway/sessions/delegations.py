"""Delegations to this member's device. They lie in their sessions' tokens, so that any gateway knows them."""

from __future__ import annotations

import time
from collections.abc import Callable

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedDelegation
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol.channel import Channel
from services.gateway.domain import delegation as rules
from services.gateway.domain.session import Session
from services.runtime.refusal import Refused

_MAX_LIFETIME_MS = 12 * 60 * 60 * 1000


class Delegations:
    """Checks them at login; chaincode checks them again with each command. Raises Refused."""

    def __init__(
        self,
        *,
        device: str,
        channel: Channel,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._device = device
        self._channel = channel
        self._clock = clock

    def check_form(self, signed: SignedDelegation, address: str) -> None:
        """That it names this person and this device, on this channel, now: what nothing has to be looked up
        for, so that it tells a stranger of nobody. Raises Refused."""
        delegation = rules.parse(signed.delegation)
        if delegation.delegator != address:
            raise Refused(
                code_pb2.CODE_FORBIDDEN, "the delegation is not of who logs in", "delegation.delegator"
            )
        if delegation.delegate != self._device:
            raise Refused(
                code_pb2.CODE_FORBIDDEN,
                "the delegation is made out to another device: the challenge names this one",
                "delegation.delegate",
            )
        rules.check_form(delegation, signed.delegation, self._channel)
        lifetime = delegation.expires_at_ms - delegation.issued_at_ms
        if delegation.expires_at_ms <= self._clock() * 1000 or not 0 < lifetime <= _MAX_LIFETIME_MS:
            raise Refused(
                code_pb2.CODE_EXPIRED,
                "the delegation has expired or is for more than 12 hours: sign a new one",
                "delegation.expires_at_ms",
            )

    @staticmethod
    def check(signed: SignedDelegation, delegator: IdentityDocument) -> None:
        """That the delegator signed it, and was not suspended since. Raises Refused.

        The signature comes first: only who holds the key is told of a suspension.
        """
        rules.check_signature(signed.delegation, signed.signature, delegator)
        if rules.parse(signed.delegation).issued_at_ms <= delegator.suspended_at_ms:
            raise Refused(
                code_pb2.CODE_FORBIDDEN,
                "the delegation was signed before its delegator's suspension: sign a new one",
                "delegation.issued_at_ms",
            )

    @staticmethod
    def of(session: Session) -> SignedDelegation | None:
        """What the session's person lets the device do; None when nothing."""
        if session.delegation is None:
            return None
        delegation, signature = session.delegation
        return SignedDelegation(delegation=delegation, signature=signature)
