"""Sessions: a challenge is signed by a key on the channel, and a token is bound to the caller's key."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable

from google.protobuf.message import DecodeError

from cbmdhi.command.v1.command_pb2 import Delegation
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import signature, standing
from cbmdhi.protocol.ids import uuid7
from services.identity import names
from services.identity.domain import session
from services.identity.domain.challenge import NONCE_BYTES, Challenge, Challenges
from services.identity.ledger import LedgerClient
from services.identity.tokens import TokenSigner
from services.runtime.clock import now_ms
from services.runtime.refusal import Refused
from services.runtime.revocations import Revocations
from services.runtime.throttle import Throttle


class Sessions:
    """Makes sessions. Raises Refused and MeshError."""

    def __init__(
        self,
        ledger: LedgerClient,
        signer: TokenSigner,
        *,
        msp_id: str,
        used_challenges: int,
        revocations: Revocations,
        logins: Throttle,
        token_seconds: int,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._ledger = ledger
        self._revocations = revocations
        self._signer = signer
        self._msp_id = msp_id
        self._challenges = Challenges(signer.challenge_key, used_challenges)
        self._clock = clock
        self._logins = logins
        self._token_seconds = token_seconds
        # An unregistered address costs a verification too, so that the time reveals nothing.
        self._nobody = signature.new_private_key().public_key()

    def challenge(self, address: str) -> Challenge:
        """A challenge for any well-formed address, registered or not."""
        session.check_address(address)
        return self._challenges.give(address, secrets.token_bytes(NONCE_BYTES), self._clock())

    async def login(self, request: identity_pb2.LoginRequest) -> identity_pb2.LoginResponse:
        """A token for the signer of the challenge, if the channel has the key as active and not revoked."""
        binding = session.binding_of(request.dpop_jkt, request.certificate_x5t_s256)
        self._challenges.check(request.challenge, request.address, self._clock())
        document = await self._ledger.identity(request.address)
        self._check_signature(document, request, binding)
        # After the signature, so that nobody else can use up the logins of an address.
        self._logins.take(request.address)
        delegation = _delegation(document, request)
        self._challenges.spend(request.challenge, request.address, self._clock())
        subject = _subject(document, request.address)
        session.check_active(subject)
        self._revocations.check(subject.msp, subject.address)
        claims = session.claims(
            self._msp_id, subject, binding, uuid7(), self._clock() // 1000, self._token_seconds
        )
        if delegation is not None:
            claims["delegation"] = delegation
        return identity_pb2.LoginResponse(
            token=self._signer.sign(claims),
            expires_at_ms=claims["exp"] * 1000,
            # Rounded down, so that nobody uses a token that has just expired.
            expires_in_seconds=claims["exp"] - -(-self._clock() // 1000),
        )

    def _check_signature(
        self, document: IdentityDocument | None, request: identity_pb2.LoginRequest, binding: session.Binding
    ) -> None:
        key = self._nobody if document is None else signature.load_public_key(document.signing_public_key)
        try:
            signature.verify(
                key, request.signature, signature.LOGIN, request.challenge, binding.thumbprint.encode()
            )
        except signature.BadSignature as error:
            raise Refused.unauthenticated(
                "the signature is not that of a registered key over this challenge and thumbprint; "
                "sign a new challenge with the wallet",
                "signature",
            ) from error


def _subject(document: IdentityDocument | None, address: str) -> session.Subject:
    if document is None:
        raise Refused.unauthenticated("log in with a registered key", "address")
    return session.Subject(
        address=address,
        role=names.role(document.role),
        msp=document.home_msp,
        # A suspended patient can still revoke consent. Gateways limit the session to that.
        active=standing.is_active(document) or standing.may_take_away(document),
    )


def _delegation(
    document: IdentityDocument | None, request: identity_pb2.LoginRequest
) -> dict[str, str] | None:
    """The delegation for the token. Raises Refused unless the one who logs in has signed it."""
    if not request.HasField("delegation"):
        return None
    signed = request.delegation
    if not request.dpop_jkt or len(signed.delegation) > session.MOST_DELEGATION_BYTES:
        raise Refused.invalid(
            f"a delegation goes with a DPoP key, and has at most {session.MOST_DELEGATION_BYTES} bytes",
            "delegation",
        )
    delegator = _delegator(signed.delegation)
    if document is None or delegator != request.address:
        raise Refused.forbidden("the delegation is not of who logs in", "delegation.delegator")
    try:
        key = signature.load_public_key(document.signing_public_key)
        signature.verify(key, signed.signature, signature.DELEGATION, signed.delegation)
    except signature.BadSignature as error:
        raise Refused.unauthenticated(
            "the delegation is not signed by who logs in: sign it anew", "delegation"
        ) from error
    return {"delegation": _base64(signed.delegation), "signature": _base64(signed.signature)}


def _delegator(serialized: bytes) -> str:
    try:
        return Delegation.FromString(serialized).delegator
    except DecodeError as error:
        raise Refused.invalid("the bytes are not a serialized Delegation", "delegation") from error


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
