"""Registrations: the checks before anything of one is stored.

The channel decides. These checks refuse with a reason, before a transaction is spent, what the channel would
not accept, so that nothing of it is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import cid, signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.state_keys import sealed_record_key_name
from services.identity.domain import certificate, roles
from services.runtime.refusal import Refused

MAX_EVIDENCE_BYTES = 256 * 1024
_BODY = "body.register_identity"
_CERTIFICATE = "enrolment_certificate"


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A key for a member's private collection, sent in the transient map."""

    msp: str
    key: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Registration:
    """A RegisterIdentity with its frame. `custodians`: MSP id and SHA-256 of what is sealed to it."""

    signer: str
    channel: str
    genesis_sha256: bytes
    address: str
    role: str
    home_msp: str
    signing_public_key: bytes
    enrolment_certificate: bytes
    custodians: Sequence[tuple[str, bytes]]
    evidence_cid: str


@dataclass(frozen=True, slots=True)
class ChannelTrust:
    """Where a registration arrives: the channel, and the identity CA roots (PEM) of each member."""

    channel: Channel
    ca_roots_pem: Mapping[str, str]


def check(
    registration: Registration, evidence: bytes, keys: Sequence[SealedKey], trust: ChannelTrust
) -> None:
    """Check all but the signature and the clock. Raises Refused."""
    check_channel(registration.channel, registration.genesis_sha256, trust.channel)
    _check_key(registration)
    _check_certificate(registration, trust)
    if registration.role == roles.PATIENT:
        _check_custodians(registration, keys)
        _check_evidence(registration.evidence_cid, evidence)
    elif registration.custodians or registration.evidence_cid or evidence or keys:
        raise _invalid("custodians, evidence and sealed keys are for patients alone; leave them out", "role")


def check_channel(name: str, genesis_sha256: bytes, channel: Channel) -> None:
    """Check that a command was signed for this channel and its genesis block. Raises Refused."""
    if name != channel.name:
        raise Refused.wrong_channel(f"signed for another channel; sign for {channel.name}", "channel")
    if genesis_sha256 != channel.genesis_sha256:
        raise Refused.wrong_channel(
            "signed for a channel of this name that began otherwise; sign with its genesis hash",
            "genesis_sha256",
        )


def _check_key(registration: Registration) -> None:
    try:
        signature.load_public_key(registration.signing_public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid("not a P-256 key as DER SubjectPublicKeyInfo", "signing_public_key") from error
    if registration.address != addresses.of_spki(registration.signing_public_key):
        raise _invalid("not the address of the signing key", "address")
    if registration.signer != registration.address:
        raise Refused.invalid("a registration is signed by the key that it registers", "signer")


def _check_certificate(registration: Registration, trust: ChannelTrust) -> None:
    roots = trust.ca_roots_pem.get(registration.home_msp)
    if roots is None:
        raise _invalid("no member of the consortium has this MSP id", "home_msp")
    found = _certificate(registration)
    try:
        certificate.check(
            found, address=registration.address, spki=registration.signing_public_key, roots_pem=roots
        )
    except certificate.NotThatCertificate as error:
        raise _invalid(f"the certificate does not fit: {error}; enrol again", _CERTIFICATE) from error


def _certificate(registration: Registration) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(registration.enrolment_certificate)
    except ValueError as error:
        raise _invalid("not a DER certificate; enrol first", _CERTIFICATE) from error


def _check_custodians(registration: Registration, keys: Sequence[SealedKey]) -> None:
    if not registration.custodians:
        raise _invalid(
            "a patient needs a custodian: choose at least one member and seal the key to it", "custodians"
        )
    named = {(msp, digest) for msp, digest in registration.custodians}
    if len({msp for msp, _ in named}) != len(registration.custodians):
        raise _invalid("each custodian is named once", "custodians")
    carried = {(key.msp, hashlib.sha256(key.sealed).digest()) for key in keys}
    wrong_place = any(key.key != sealed_record_key_name(registration.address) for key in keys)
    if wrong_place or carried != named or len(keys) != len(named):
        raise Refused.invalid(
            "the sealed keys are not those that the command names: send one for each custodian", "sealed_keys"
        )


def _check_evidence(evidence_cid: str, evidence: bytes) -> None:
    if len(evidence) > MAX_EVIDENCE_BYTES:
        raise Refused.too_large(f"evidence has at most {MAX_EVIDENCE_BYTES} bytes", "sealed_evidence")
    if not evidence:
        raise Refused.invalid(
            "a patient shows the reviewers evidence: seal it and send it along", "sealed_evidence"
        )
    # Computed, not parsed, so that only one form of a CID passes, and only raw.
    if evidence_cid != cid.raw(evidence):
        raise _invalid("not the CID of the sealed evidence that came with it", "evidence_cid")


def _invalid(reason: str, field: str) -> Refused:
    return Refused.invalid(reason, f"{_BODY}.{field}")
