"""The member's own notify service: tells a patient of an opening that is not on the channel yet."""

from __future__ import annotations

import grpc

from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from services.runtime.client import RetryBudget, call

_SECONDS = 5.0


class PatientNotices:
    """Raises MeshError and nothing else."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = notify_pb2_grpc.EmergencyServiceStub(channel)
        self._retries = RetryBudget()

    async def tell(self, signed: SignedCommand) -> None:
        """Put the command into the inboxes of the patient and the reviewers. Idempotent."""
        request = notify_pb2.TellRequest(command=signed)
        await call(self._stub.Tell, request, deadline_seconds=_SECONDS, retries=self._retries)
