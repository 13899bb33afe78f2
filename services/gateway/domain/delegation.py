"""Delegations: what a person signed so that a device acts for it. Chaincode has these rules too."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Delegation
from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import signature, words
from cbmdhi.protocol.channel import Channel
from services.gateway.domain.group import Parsed, check_words, expired, invalid
from services.runtime.refusal import Refused


def parse(serialized: bytes) -> Delegation:
    """What was signed. Raises Refused."""
    try:
        return Delegation.FromString(serialized)
    except DecodeError as error:
        raise invalid("the bytes are not a serialized Delegation", "delegation") from error


def of_command(parsed: Parsed) -> Delegation | None:
    """What stands behind a command that a device signed; None for one signed in person. Raises Refused."""
    return parse(parsed.signed.delegation.delegation) if parsed.signed.HasField("delegation") else None


def acting_for(parsed: Parsed) -> str:
    """Whose command it is: who delegated it, or else its signer. Worth it once the signatures are checked."""
    delegation = of_command(parsed)
    return parsed.signed.signer if delegation is None else delegation.delegator


def check(
    parsed: Parsed, delegation: Delegation, delegator: IdentityDocument | None, channel: Channel
) -> None:
    """That the delegation is the delegator's, for this device and channel. Raises Refused."""
    if delegation.delegate != parsed.signed.signer:
        raise Refused(
            code_pb2.CODE_FORBIDDEN, "the delegation is made out to another device", "delegation.delegate"
        )
    check_form(delegation, parsed.signed.delegation.delegation, channel)
    if delegator is None:
        raise Refused(
            code_pb2.CODE_UNKNOWN_SIGNER,
            "who delegates is not registered: register first",
            "delegation.delegator",
        )
    signed = parsed.signed.delegation
    check_signature(signed.delegation, signed.signature, delegator)


def check_status(delegation: Delegation, delegator: IdentityDocument | None, now_ms: int) -> None:
    """That a delegation that was checked holds now. Raises Refused."""
    if delegation.expires_at_ms <= now_ms:
        raise expired("the delegation expired: log in again with a new one", "delegation.expires_at_ms")
    if delegator is None or delegator.status != IdentityStatus.IDENTITY_STATUS_ACTIVE:
        raise Refused(code_pb2.CODE_INACTIVE_SIGNER, "who delegates is not active", "delegation.delegator")


def check_form(delegation: Delegation, serialized: bytes, channel: Channel) -> None:
    """That it was signed for this channel, as it began, and holds no free text. Raises Refused."""
    if delegation.channel != channel.name:
        raise Refused(
            code_pb2.CODE_WRONG_CHANNEL, "the delegation is for another channel", "delegation.channel"
        )
    if delegation.genesis_sha256 != channel.genesis_sha256:
        raise Refused(
            code_pb2.CODE_WRONG_CHANNEL,
            "the delegation is for a channel of this name that began otherwise: sign a new one",
            "delegation.genesis_sha256",
        )
    try:
        words.check_exact(serialized, delegation, "delegation")
    except words.NotAWord as error:
        raise invalid(str(error), error.path) from error
    check_words(delegation, "delegation", ())


def check_signature(delegation: bytes, signed: bytes, delegator: IdentityDocument) -> None:
    """The delegator's signature. Raises Refused BAD_SIGNATURE."""
    try:
        if addresses.of_spki(delegator.signing_public_key) != delegator.address:
            raise ValueError("not the key of this address")
        key = signature.load_public_key(delegator.signing_public_key)
        signature.verify(key, signed, signature.DELEGATION, delegation)
    except (signature.BadSignature, ValueError) as error:
        raise Refused(
            code_pb2.CODE_BAD_SIGNATURE,
            "the delegation's signature is not the delegator's: sign it with the registered key",
            "delegation.signature",
        ) from error
