"""Connections to a member's gateway: one for first contact, one with certificate and token."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from cbmdhi import sending
from cbmdhi.client import tracing
from cbmdhi.client.backoff import Backoff
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, from_rpc, unreadable
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.protocol import call as calls
from cbmdhi.protocol import signature
from cbmdhi.protocol.consortium import Member
from cbmdhi.sending import Attempts
from cbmdhi.wallet import Wallet

T = TypeVar("T")
M = TypeVar("M", bound=Message)

Metadata = tuple[tuple[str, str], ...]
"""What goes along with a call."""

_BEARER = "Bearer "
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
DEFAULT_DEADLINE_SECONDS = 30.0
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 64 * 1024),
    ("grpc.max_send_message_length", -1),  # `check_size` says it in a sentence instead
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.enable_retries", 0),
]
_RETRIED = (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_RESOURCE_EXHAUSTED)


def check_size(request: Message) -> None:
    """Refuse here what the gateway would refuse anyway. Raises MeshError TOO_LARGE naming the limit."""
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise MeshError(
            code_pb2.CODE_TOO_LARGE,
            f"a message is at most 16 MiB ({MAX_MESSAGE_BYTES} bytes), this one has {size}: "
            "split the content into several records",
            outcome=code_pb2.OUTCOME_NOT_DONE,
        )


class Connection:
    """Speaks to one member's gateway for one wallet. Logs in by itself, and again when the token ends."""

    def __init__(
        self,
        wallet: Wallet,
        member: Member,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
        first_contact: grpc.aio.Channel | None = None,
    ) -> None:
        """`first_contact`: a channel that several wallets share; it stays its owner's, open."""
        self.wallet = wallet
        self.member = member
        self.deadline_seconds = deadline_seconds
        self.device = ""
        self.tokens = Tokens(self._log_in)
        self.on_cut: Callable[[Sequence[Message]], object] = lambda _: None
        """Told of what was signed and may have been sent, when whoever waits for it waits no longer."""
        self.under_way: set[Callable[[], Sequence[Message]]] = set()
        """What goes on over many calls: each tells what of it may have been sent, and has no result."""
        self._authenticated: grpc.aio.Channel | None = None
        roots = member.tls_ca_pem.encode()
        self._options = [*_OPTIONS, ("grpc.ssl_target_name_override", f"gateway.{member.name}")]
        self._shares_first_contact = first_contact is not None
        self.first_contact = first_contact or grpc.aio.secure_channel(
            member.gateway.first_contact, grpc.ssl_channel_credentials(roots), options=self._options
        )

    @property
    def authenticated(self) -> grpc.aio.Channel:
        """The channel that shows the wallet's certificate. Raises WalletError before enrolment, and with a
        certificate that no gateway takes."""
        if self._authenticated is None:
            self.wallet.check_certificate()
            credentials = grpc.ssl_channel_credentials(
                self.member.tls_ca_pem.encode(),
                self.wallet.private_key_pem,
                self.wallet.certificate_pem.encode(),
            )
            self._authenticated = grpc.aio.secure_channel(
                self.member.gateway.grpc, credentials, options=self._options
            )
        return self._authenticated

    async def close(self) -> None:
        """Close both channels. What is under way is cut off."""
        for one in tuple(self.under_way):
            self.cut(one)
        await self.tokens.close()
        if not self._shares_first_contact:
            await self.first_contact.close()
        if self._authenticated is not None:
            await self._authenticated.close()

    def cut(self, unheard: Callable[[], Sequence[Message]]) -> None:
        """End something of `under_way`, and tell `on_cut` of it. Once."""
        if unheard in self.under_way:
            self.under_way.discard(unheard)
            self.on_cut(unheard())

    async def forget_certificate(self) -> None:
        """Start again with the certificate that the wallet has now."""
        if self._authenticated is not None:
            await self._authenticated.close()
        self._authenticated = None
        self.tokens.forget()

    async def anonymous(self, method: Callable[..., Awaitable[T]], request: Any) -> T:
        """Call on the port for first contact."""
        return await self._retrying(self.first_contact, lambda left, _: method(request, timeout=left))

    async def enrolled(self, method: Callable[..., Awaitable[T]], request: Any) -> T:
        """Call with the certificate alone: what there is before the registration is active."""
        return await self._retrying(self.authenticated, lambda left, _: method(request, timeout=left))

    async def call(self, method: Callable[..., Awaitable[T]], request: Any) -> T:
        """Call with certificate and token; once more with a new token when the old one was refused."""
        return await self._retrying(
            self.authenticated,
            lambda left, metadata: method(request, timeout=left, metadata=metadata),
            with_token=True,
        )

    async def personal(self, method: Callable[..., Awaitable[T]], request: Any) -> T:
        """Call what is answered to the person alone, whoever carries it: signed, anew for each attempt."""
        return await self.call(lambda asked, **how: method(self.signed(asked), **how), request)

    def signed(self, request: M) -> M:
        """The request as the wallet's own call to a service of this member, good once, for five minutes."""
        wallet = self.wallet
        channel = wallet.consortium.signed_channel
        return calls.sign(request, wallet, channel=channel, msp=self.member.msp_id)

    async def metadata(self) -> Metadata:
        """Metadata with a valid token, for streams; and the current trace's context."""
        return (("authorization", f"{_BEARER}{await self.token()}"), *tracing.headers().items())

    def renews_in(self, used: Metadata) -> float:
        """Seconds until whoever holds a stream open with this metadata looks for a newer token."""
        return self.tokens.renews_in if used else math.inf

    async def is_renewed(self, used: Metadata) -> bool:
        """Whether there is a newer token than the one in this metadata, or none that is good; renews it if it
        is time. Does not wait for that while the old one does."""
        try:
            return ("authorization", f"{_BEARER}{await self.token()}") not in used
        except MeshError:
            return True

    def forget_token(self, refused: Metadata = ()) -> None:
        """Log in anew at the next call.

        refused  metadata with a token that was refused: one that took its place meanwhile stays
        """
        tokens = [value.removeprefix(_BEARER) for name, value in refused if name == "authorization"]
        self.tokens.forget(*tokens)

    async def token(self) -> str:
        """A token with some life left, bound to the wallet's certificate (RFC 8705)."""
        return await self.tokens.get()

    async def login(
        self, *, certificate_x5t_s256: str = "", dpop_jkt: str = ""
    ) -> identity_pb2.LoginResponse:
        """Show that this wallet holds the registered key; the token is bound to the thumbprint."""
        sessions = identity_pb2_grpc.SessionServiceStub(self.first_contact)
        address = self.wallet.address
        challenge = await self.anonymous(sessions.Challenge, identity_pb2.ChallengeRequest(address=address))
        self.device = challenge.device
        binding = (certificate_x5t_s256 or dpop_jkt).encode()
        request = identity_pb2.LoginRequest(
            address=address,
            challenge=challenge.challenge,
            signature=self.wallet.sign(signature.LOGIN, challenge.challenge, binding),
            certificate_x5t_s256=certificate_x5t_s256,
            dpop_jkt=dpop_jkt,
        )
        return cast(identity_pb2.LoginResponse, await self.anonymous(sessions.Login, request))

    async def _metadata_or_nothing_done(self) -> Metadata:
        """Whatever became of a login, what is to be called has not left."""
        try:
            return await self.metadata()
        except MeshError as error:
            error.outcome = code_pb2.OUTCOME_NOT_DONE
            raise

    async def _log_in(self) -> Issued:
        response = await self.login(certificate_x5t_s256=self.wallet.certificate_thumbprint)
        return Issued(response.token, response.expires_in_seconds)

    async def _retrying(
        self,
        channel: grpc.aio.Channel,
        attempt: Callable[[float, Metadata], Awaitable[T]],
        *,
        with_token: bool = False,
    ) -> T:
        """Try until the deadline; only what did nothing or is idempotent by its id comes again.

        What fails before there is a connection has certainly done nothing.
        """
        ends = time.monotonic() + self.deadline_seconds
        waits, attempts, is_renewed = Backoff(most_seconds=2.0, first_seconds=0.1), Attempts(), not with_token
        while True:
            metadata: Metadata = ()
            try:
                if with_token:
                    metadata = await self._metadata_or_nothing_done()
                await connected(channel, max(ends - time.monotonic(), 0.001))
                answer = await attempt(max(ends - time.monotonic(), 0.001), metadata)
                # What grpcio gives for bytes that are no message.
                if answer is None:
                    raise unreadable()
                return answer
            except (grpc.aio.AioRpcError, MeshError) as error:
                ours = error if isinstance(error, MeshError) else from_rpc(error, ends - time.monotonic())
                ours.outcome = attempts.failed(ours.outcome)
                if ours.code == code_pb2.CODE_UNAUTHENTICATED and metadata and not is_renewed:
                    is_renewed = True
                    self.forget_token(metadata)
                    continue
                wait = waits.next(ours.retry_after_ms / 1000)
                if ours.code not in _RETRIED or time.monotonic() + wait > ends:
                    raise ours from error
            await asyncio.sleep(wait)


async def connected(channel: grpc.aio.Channel, seconds: float) -> None:
    """Return when there is a connection. Raises MeshError UNAVAILABLE, DEADLINE_EXCEEDED: nothing left."""
    try:
        await sending.connected(channel, seconds)
    except sending.NotConnected as error:
        reason = f"the gateway: {error.reason}"
        raise MeshError(error.code, reason, outcome=code_pb2.OUTCOME_NOT_DONE) from error
