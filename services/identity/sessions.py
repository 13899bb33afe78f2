"""Sessions: a challenge, its signature by a key on the channel, a token bound to the caller's key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import signature, standing
from cbmdhi.protocol.ids import uuid7
from services.identity import names
from services.identity.domain import session
from services.identity.domain.challenge import NONCE_BYTES, Challenge, Challenges
from services.identity.domain.refusal import Refused, Why
from services.identity.tokens import TokenSigner
from services.runtime.revocations import Revocations


class Identities(Protocol):
    """What is needed of the ledger (services.identity.ledger)."""

    async def identity(self, address: str) -> IdentityDocument | None: ...


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Sessions:
    """Makes sessions. Raises Refused and MeshError."""

    def __init__(
        self,
        ledger: Identities,
        signer: TokenSigner,
        *,
        msp_id: str,
        used_challenges: int,
        revocations: Revocations,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._ledger = ledger
        self._revocations = revocations
        self._signer = signer
        self._msp_id = msp_id
        self._challenges = Challenges(signer.challenge_key, used_challenges)
        self._clock = clock
        # An address that is not registered costs a verification too, so that time tells nothing.
        self._nobody = signature.new_private_key().public_key()

    def challenge(self, address: str) -> Challenge:
        """Something to sign, for any well-formed address, registered or not."""
        if not addresses.is_address(address):
            raise Refused(Why.INVALID, "not an address: cb1 and 32 characters of base32", "address")
        return self._challenges.give(address, secrets.token_bytes(NONCE_BYTES), self._clock())

    async def login(self, request: identity_pb2.LoginRequest) -> identity_pb2.LoginResponse:
        """A token for who signed the challenge with the key on the channel, if active and not revoked."""
        binding = session.binding_of(request.dpop_jkt, request.certificate_x5t_s256)
        self._challenges.check(request.challenge, request.address, self._clock())
        document = await self._ledger.identity(request.address)
        self._check_signature(document, request, binding)
        self._challenges.spend(request.challenge, request.address, self._clock())
        subject = _subject(document, request.address)
        session.check_active(subject)
        self._revocations.check(subject.msp, subject.address)
        claims = session.claims(self._msp_id, subject, binding, uuid7(), self._clock() // 1000)
        return identity_pb2.LoginResponse(token=self._signer.sign(claims), expires_at_ms=claims["exp"] * 1000)

    def _check_signature(
        self, document: IdentityDocument | None, request: identity_pb2.LoginRequest, binding: session.Binding
    ) -> None:
        key = self._nobody if document is None else signature.load_public_key(document.signing_public_key)
        try:
            signature.verify(
                key, request.signature, signature.LOGIN, request.challenge, binding.thumbprint.encode()
            )
        except signature.BadSignature as error:
            raise Refused(
                Why.UNAUTHENTICATED,
                "the signature is not that of a registered key over this challenge and thumbprint; "
                "sign a new challenge with the wallet",
                "signature",
            ) from error


def _subject(document: IdentityDocument | None, address: str) -> session.Subject:
    if document is None:
        raise Refused(Why.UNAUTHENTICATED, "log in with a registered key", "address")
    return session.Subject(
        address=address,
        role=names.role(document.role),
        msp=document.home_msp,
        # A suspended patient still takes consent away: gateways see to it that the session serves that alone.
        active=standing.is_active(document) or standing.may_take_away(document),
    )
