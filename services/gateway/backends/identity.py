"""The member's identity service, as far as the gateway itself asks it."""

from __future__ import annotations

import grpc

from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from services.runtime.client import RetryBudget, call

_SECONDS = 5.0


class Identity:
    """Token keys, challenges, logins. Raises MeshError and nothing else."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = identity_pb2_grpc.SessionServiceStub(channel)
        self._retries = RetryBudget()

    async def token_keys(self) -> str:
        """The JSON Web Key Set that verifies this member's tokens."""
        request = identity_pb2.GetTokenKeysRequest()
        answer = await call(
            self._stub.GetTokenKeys, request, deadline_seconds=_SECONDS, retries=self._retries
        )
        return answer.jwks_json

    async def challenge(self, address: str) -> identity_pb2.ChallengeResponse:
        """Something to sign."""
        request = identity_pb2.ChallengeRequest(address=address)
        return await call(self._stub.Challenge, request, deadline_seconds=_SECONDS, retries=self._retries)

    async def login(self, request: identity_pb2.LoginRequest) -> identity_pb2.LoginResponse:
        """A token. Not tried again: a challenge is good for one attempt."""
        return await call(self._stub.Login, request, deadline_seconds=_SECONDS)
