"""state_keys.json: the keys of the chaincode's state, as whoever asks a peer has to spell them."""

from __future__ import annotations

from collections.abc import Callable

from cbmdhi.protocol import state_keys
from tests.vectors.fixed import Vectors, uuid

_ADDRESS = "cb1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
_WRITER, _CUSTODIAN = "MercyMSP", "Lakeside.MSP-2"
_ID = uuid(7)

PUBLIC: tuple[tuple[str, Callable[..., str], tuple[str | int, ...]], ...] = (
    ("IdentityDocument", state_keys.identity_key, (_ADDRESS,)),
    ("RegisterIdentity", state_keys.registration_key, (_ADDRESS,)),
    ("MemberDocument", state_keys.member_key, (_CUSTODIAN,)),
    ("ConsentDocument", state_keys.consent_key, (_ADDRESS,)),
    ("FirstAdministrator", state_keys.first_administrator_key, (_WRITER,)),
    ("BreakGlassQuota", state_keys.break_glass_quota_key, (_ADDRESS,)),
    ("PolicyVote", state_keys.policy_vote_key, (1, _WRITER)),
    ("PolicyVote", state_keys.policy_vote_key, (2**53, _WRITER)),
    *(("Epoch", state_keys.epoch_key, (29_833_333 + place,)) for place in range(3)),
    ("RecordVersion", state_keys.record_key, (_ID, 1)),
    ("RecordVersion", state_keys.record_key, (_ID, 2**32 - 1)),
    ("AuditEntry", state_keys.audit_key, (_ID, _ADDRESS)),
    ("EndedConsent", state_keys.ended_consent_key, (_ID, _ADDRESS)),
    ("RevokedDelegation", state_keys.revoked_delegation_key, (_ID, _ADDRESS)),
    ("BreakGlass", state_keys.broken_glass_key, (_ID, _ADDRESS)),
    ("BreakGlassReviews", state_keys.break_glass_reviews_key, (_ID, _ADDRESS)),
    ("WriterKeyState", state_keys.writer_key_state_key, (_WRITER, _ID)),
    ("LateKey", state_keys.late_key_key, (_WRITER, _CUSTODIAN, _ID)),
)
"""What lies there, who spells its key, and of what."""

PRIVATE: tuple[tuple[str, Callable[..., str], tuple[str, ...]], ...] = (
    ("record private key", state_keys.sealed_record_key_name, (_ADDRESS,)),
    ("writer key", state_keys.sealed_writer_key_name, (_WRITER, _ID)),
)


def vectors(_: Vectors) -> Vectors:
    """The whole file. Nothing in it is left to chance."""
    return {
        "channel": state_keys.CHANNEL,
        "policy": state_keys.POLICY,
        "public": [{"of": of, "parts": list(parts), "key": spell(*parts)} for of, spell, parts in PUBLIC],
        "private": [{"of": of, "parts": list(parts), "key": spell(*parts)} for of, spell, parts in PRIVATE],
        "collection": {"msp": _CUSTODIAN, "name": state_keys.implicit_collection(_CUSTODIAN)},
    }
