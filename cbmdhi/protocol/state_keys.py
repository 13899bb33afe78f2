"""Keys of the chaincode's state: the one place in Python that spells them.

`chaincode/state/keys.go` is the same for Go; `tests/vectors/state_keys.json` holds both to one spelling.
`protos/cbmdhi/command/v1/state.proto` says what lies under each key.
"""

from __future__ import annotations

from typing import Final

POLICY: Final = "pol"
"""Of the PolicyState: the policy in force."""
CHANNEL: Final = "chan"
"""Of the ChannelState: how the channel began."""

# What `kind_of` answers: the first part of keys of documents …
IDENTITY: Final = "id"
EPOCH: Final = "epoch"
# … and the third part of `z/<id>/<kind>/…`, which begin with a time-ordered id.
RECORD: Final = "rec"
AUDIT: Final = "aud"

_TIMELINE = "z"
_EPOCH_SLOTS = 3
_SEALED_RECORD_KEY = "rk/"


def identity_key(address: str) -> str:
    """Of an IdentityDocument."""
    return f"{IDENTITY}/{address}"


def registration_key(address: str) -> str:
    """Of the SignedCommand that registered an identity and so certifies its keys."""
    return f"reg/{address}"


def member_key(msp: str) -> str:
    """Of a MemberDocument."""
    return f"org/{msp}"


def consent_key(patient: str) -> str:
    """Of the ConsentDocument of a patient."""
    return f"con/{patient}"


def first_administrator_key(msp: str) -> str:
    """Of the FirstAdministrator of a member."""
    return f"adm/{msp}"


def break_glass_quota_key(clinician: str) -> str:
    """Of the BreakGlassQuota of a clinician."""
    return f"bgq/{clinician}"


def policy_vote_key(version: int, msp: str) -> str:
    """Of a member's PolicyVote for the policy of that version."""
    return f"polv/{version:016x}/{msp}"


def epoch_key(number: int) -> str:
    """Of the Epoch with that number. The state holds three of them."""
    return f"{EPOCH}/{number % _EPOCH_SLOTS}"


EPOCH_KEYS: Final = tuple(epoch_key(slot) for slot in range(_EPOCH_SLOTS))
"""Of all epochs that the state holds."""


def record_key(record_id: str, version: int) -> str:
    """Of a RecordVersion."""
    return f"{_TIMELINE}/{record_id}/{RECORD}/{version:08x}"


def audit_key(command_id: str, signer: str) -> str:
    """Of the AuditEntry of a command. It is written once and never again."""
    return f"{_TIMELINE}/{command_id}/{AUDIT}/{signer}"


def ended_consent_key(consent_id: str, patient: str) -> str:
    """Of the EndedConsent that a revoked consent leaves."""
    return f"{_TIMELINE}/{consent_id}/end/{patient}"


def revoked_delegation_key(delegation_id: str, delegator: str) -> str:
    """Of a RevokedDelegation."""
    return f"{_TIMELINE}/{delegation_id}/off/{delegator}"


def broken_glass_key(break_glass_id: str, clinician: str) -> str:
    """Of the SignedCommand by which a glass was broken."""
    return f"{_TIMELINE}/{break_glass_id}/glass/{clinician}"


def break_glass_reviews_key(break_glass_id: str, clinician: str) -> str:
    """Of the BreakGlassReviews of a broken glass."""
    return f"{_TIMELINE}/{break_glass_id}/bgr/{clinician}"


def writer_key_state_key(writer_msp: str, key_id: str) -> str:
    """Of a WriterKeyState."""
    return f"wkey/{writer_msp}/{key_id}"


def late_key_key(writer_msp: str, custodian_msp: str, key_id: str) -> str:
    """Of a LateKey: a writer key that a custodian has not received."""
    return f"late/{writer_msp}/{custodian_msp}/{key_id}"


def sealed_record_key_name(patient: str) -> str:
    """Private data: a patient's record private key, sealed to the member in whose collection it lies."""
    return f"{_SEALED_RECORD_KEY}{patient}"


def is_sealed_record_key(name: str) -> bool:
    """Whether private data of that name is a patient's record private key."""
    return name.startswith(_SEALED_RECORD_KEY)


def sealed_writer_key_name(writer_msp: str, key_id: str) -> str:
    """Private data: a writer key, sealed to the patient. It is told apart by the member that made it."""
    return f"wk/{writer_msp}/{key_id}"


def implicit_collection(msp: str) -> str:
    """The private data collection of a member, which Fabric names."""
    return f"_implicit_org_{msp}"


def kind_of(key: str) -> str:
    """The first part of a key (IDENTITY, EPOCH, …); of `z/<id>/<kind>/…` the third (RECORD, AUDIT, …)."""
    first, _, rest = key.partition("/")
    return rest.partition("/")[2].partition("/")[0] if first == _TIMELINE else first


def record_of(key: str) -> tuple[str, int]:
    """Record id and version of the key of a RecordVersion. Raises ValueError for another key."""
    timeline, record_id, kind, version = key.split("/")
    if (timeline, kind) != (_TIMELINE, RECORD):
        raise ValueError("not the key of a record version")
    return record_id, int(version, 16)
