"""The gateway's device, acting for the person of a session inside what that person signed at login."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, SignedCommand
from cbmdhi.protocol.channel import Channel
from services.gateway.domain.session import Session
from services.gateway.sessions.delegations import Delegations
from services.gateway.sessions.device import Device
from services.runtime.errors import MeshError

SignGroup = Callable[[Sequence[Message]], CommandGroup]
"""From bodies, such as PutRecord, to one group of the device's commands on behalf of the session's person."""
Sign = Callable[[Message], SignedCommand]
"""The same of one body, such as Access."""


class DelegatedSigner:
    """Signs for callers who cannot sign each command. Chaincode decides whether the delegation covers it."""

    def __init__(
        self, device: Device, delegations: Delegations, *, channel: Channel, is_registered: Callable[[], bool]
    ) -> None:
        self.device = device
        self._delegations = delegations
        self._channel = channel
        self._is_registered = is_registered

    def signer(self, session: Session) -> Sign:
        """What signs for this session. Raises as `group_signer` does."""
        sign = self.group_signer(session)
        return lambda body: sign([body]).commands[0]

    def group_signer(self, session: Session) -> SignGroup:
        """What signs for this session. Raises MeshError: FORBIDDEN without a delegation, UNAVAILABLE while
        the device is not registered."""
        delegation = self._delegations.of(session)
        if delegation is None:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN,
                "this session lets the gateway do nothing: log in with a delegation to its device",
            )
        if not self._is_registered():
            raise MeshError(
                code_pb2.CODE_UNAVAILABLE, "the gateway's device is not registered yet; send again", "", 1_000
            )
        return lambda bodies: self.device.sign_group(bodies, self._channel, delegation)
