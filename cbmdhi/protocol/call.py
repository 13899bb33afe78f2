"""Calls: what a person asks of a service behind the gateway, signed by who asks and carried as it is."""

from __future__ import annotations

import time
from typing import Any, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from cbmdhi.command.v1.call_pb2 import Call, SignedCall
from cbmdhi.protocol import signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.ids import uuid7

M = TypeVar("M", bound=Message)

MAX_LIFETIME_SECONDS = 300


class MalformedCall(Exception):
    """The bytes are not a call with a request of that type."""


class Signer(Protocol):
    """Who can ask in person: a wallet, or a key in memory."""

    @property
    def address(self) -> str:
        """The signer's address."""
        ...

    def sign(self, label: str, *parts: bytes) -> bytes:
        """Sign under a label."""
        ...


def sign(
    request: M,
    signer: Signer,
    *,
    channel: Channel,
    msp: str,
    lifetime_seconds: int = MAX_LIFETIME_SECONDS,
    now_ms: int | None = None,
) -> M:
    """The request as it travels: nothing but the call that means it, good once from now on.

    msp  MSP id of the member whose service is asked
    """
    issued = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    raw = Call(
        call_id=uuid7(),
        channel=channel.name,
        genesis_sha256=channel.genesis_sha256,
        msp=msp,
        request_type=request.DESCRIPTOR.full_name,
        request=request.SerializeToString(deterministic=True),
        issued_at_ms=issued,
        expires_at_ms=issued + lifetime_seconds * 1000,
    ).SerializeToString(deterministic=True)
    call = SignedCall(call=raw, signature=signer.sign(signature.CALL, raw), signer=signer.address)
    return type(request)(call=call)


def parse(request: M) -> tuple[SignedCall, Call, M]:
    """The call that a request carries, and the request that it means; the signature is not checked.

    Raises MalformedCall.
    """
    carrying: Any = request
    signed: SignedCall = carrying.call
    try:
        call = Call.FromString(signed.call)
        meant = type(request).FromString(call.request)
    except DecodeError as error:
        raise MalformedCall("the bytes are not a serialized Call") from error
    if call.request_type != request.DESCRIPTOR.full_name:
        raise MalformedCall("the call means another request than the one that carries it")
    return signed, call, meant


def verify(signed: SignedCall, spki_der: bytes) -> None:
    """Check the signature with the signer's registered key. Raises signature.BadSignature."""
    signature.verify(signature.load_public_key(spki_der), signed.signature, signature.CALL, signed.call)
