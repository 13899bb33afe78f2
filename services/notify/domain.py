"""Derives notifications from a committed transaction: who is told what. Pure.

A patient is told everything about their registration, consents and data. Staff are told about their own
registration and the reviews of their break-glass. Administrators are told about registrations that wait for
their member's vote. Privacy officers and administrators are told about every break-glass, since two members
review it. An emergency opening is told twice: before it is on record (`emergency`), and when it is.

Changes of an identity follow from its document and its status before. So a large transaction may come in any
number of messages, and a message may come twice.

Each member tells its own people. An unknown address is told by every member.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2
from services.notify.notices import Identity, Notice, ReviewRule

_PENDING = state_pb2.IDENTITY_STATUS_PENDING
_SUSPENDED = state_pb2.IDENTITY_STATUS_SUSPENDED

_READING = frozenset(("read", "search", "history", "export"))
_DONE_FOR_PATIENT = {"write": "record.written", "consent": "consent.given", "revoke": "consent.revoked"}


Hears = Callable[[str], bool]
"""Whether this member tells the owner of an address."""


@dataclass(frozen=True)
class Announcement:
    """What follows from one event."""

    notices: list[Notice] = field(default_factory=list[Notice])
    identities: list[Identity] = field(default_factory=list[Identity])


def announce(
    event: events_pb2.TransactionCommitted,
    known: Mapping[str, Identity],
    staff: Iterable[Identity],
    rules: Sequence[ReviewRule] | None,
    home: str,
) -> Announcement:
    """Notices for the people of a member and changed identities, of an event.

    known  identities that the event concerns (see `concerned`), as they were known before
    staff  all active administrators and privacy officers known before
    rules  the policy's review rules; None: not available, so every member is asked to review
    home   MSP id of the member
    """
    documents = newer_identities(event, known)
    news = {address: _identity(document) for address, document in documents.items()}
    # For an address in this event only its new document says whether it is staff.
    staff_now = [one for one in staff if one.address not in news]
    staff_now += [one for one in news.values() if one.is_staff]
    of_staff = {one.address: one for one in staff_now}

    def hears(address: str) -> bool:
        one = news.get(address) or known.get(address) or of_staff.get(address)
        return one is None or one.home_msp == home

    notices: list[Notice] = []
    for entry in event.entries:
        notices += _of_entry(event, entry, staff_now, hears)
    for document in documents.values():
        notices += _of_identity(event, document, known.get(document.address), staff_now, rules, hears)
    return Announcement(notices, [*news.values()])


def newer_identities(
    event: events_pb2.TransactionCommitted, known: Mapping[str, Identity]
) -> dict[str, state_pb2.IdentityDocument]:
    """The event's identity documents that are newer than what is known, by address."""
    return {
        document.address: document
        for document in event.identities
        if document.address not in known or document.version > known[document.address].version
    }


def concerned(event: events_pb2.TransactionCommitted) -> set[str]:
    """Addresses whose known identity `announce` needs, besides staff."""
    addresses = {document.address for document in event.identities}
    for entry in event.entries:
        addresses.add(entry.patient or entry.subject)
        if entry.action in ("break-glass", "emergency-access", "review-break-glass"):
            addresses.update((entry.signer, entry.subject))
    return addresses - {""}


def wants_review(event: events_pb2.TransactionCommitted, known: Mapping[str, Identity]) -> bool:
    """Whether `announce` needs the review rules."""
    return any(_begins_to_wait(document, known) for document in newer_identities(event, known).values())


def _begins_to_wait(document: state_pb2.IdentityDocument, known: Mapping[str, Identity]) -> bool:
    before = known.get(document.address)
    return document.status == _PENDING and (before is None or before.status != _PENDING)


def _of_entry(
    event: events_pb2.TransactionCommitted,
    entry: state_pb2.AuditEntry,
    staff: Sequence[Identity],
    hears: Hears,
) -> list[Notice]:
    # An entry that was refused before a decision (missing, malformed, unknown signer) can name anybody. It is
    # in the audit trail, and nobody is told.
    if entry.code not in (code_pb2.CODE_OK, code_pb2.CODE_FORBIDDEN):
        return []
    done = entry.code == code_pb2.CODE_OK
    match entry.action:
        case "register" if done:
            return _to(entry.subject, event, entry, "registration.requested", hears)
        case "review" if done:
            return _to(entry.subject, event, entry, "registration.reviewed", hears)
        case "write" | "consent" | "revoke" if done:
            return _to(entry.patient, event, entry, _DONE_FOR_PATIENT[entry.action], hears)
        case action if action in _READING:
            kind = "access.permitted" if done else "access.refused"
            return _to(entry.patient, event, entry, kind, hears)
        case "review-break-glass" if done:
            return _of_break_glass_review(event, entry, hears)
        case "break-glass" | "emergency-access":
            kind = "break-glass" if entry.action == "break-glass" else "emergency.recorded"
            officers = [one.address for one in staff if done and one.address != entry.signer]
            return [
                notice
                for owner in (entry.patient, *officers)
                for notice in _to(owner, event, entry, kind, hears)
            ]
        case _:
            return []


def _of_break_glass_review(
    event: events_pb2.TransactionCommitted, entry: state_pb2.AuditEntry, hears: Hears
) -> list[Notice]:
    """One member's verdict on the break-glass that it names. CODE_FORBIDDEN: not justified."""
    code = code_pb2.CODE_OK if entry.reason_code == "justified" else code_pb2.CODE_FORBIDDEN
    return [
        Notice(
            *(owner, "break-glass.reviewed", event.tx_id, event.block, event.at_ms),
            actor=entry.signer,
            actor_msp=entry.signer_msp,
            record_id=entry.record_id,
            version=entry.version,
            category=entry.category,
            code=code,
            command_id=entry.break_glass_id,
            subject="" if owner == entry.patient else entry.patient,
        )
        for owner in (entry.patient, entry.subject)
        if hears(owner)
    ]


def _of_identity(
    event: events_pb2.TransactionCommitted,
    document: state_pb2.IdentityDocument,
    before: Identity | None,
    staff: Sequence[Identity],
    rules: Sequence[ReviewRule] | None,
    hears: Hears,
) -> list[Notice]:
    was = before.status if before is not None else state_pb2.IDENTITY_STATUS_UNSPECIFIED
    if document.status == was:
        return []
    match document.status:
        case state_pb2.IDENTITY_STATUS_PENDING:
            return [
                _about(event, document, "review.wanted", one.address)
                for one in _reviewers(document, staff, rules)
                if hears(one.address)
            ]
        case state_pb2.IDENTITY_STATUS_ACTIVE:
            kind = "identity.reinstated" if was == _SUSPENDED else "registration.activated"
        case state_pb2.IDENTITY_STATUS_REJECTED:
            kind = "registration.rejected"
        case state_pb2.IDENTITY_STATUS_SUSPENDED:
            kind = "identity.suspended"
        case _:
            return []
    return [_about(event, document, kind, document.address)] if hears(document.address) else []


def _reviewers(
    document: state_pb2.IdentityDocument, staff: Sequence[Identity], rules: Sequence[ReviewRule] | None
) -> list[Identity]:
    """Administrators whose member may vote and has not voted yet."""
    rule = next((rule for rule in rules or () if rule.role == document.role), None)
    if rules is not None and (rule is None or rule.quorum == 0):
        return []
    voted = {review.msp for review in document.reviews}
    return [
        one
        for one in staff
        if one.role == command_pb2.ROLE_ADMINISTRATOR
        and one.home_msp not in voted
        and (rule is None or not rule.home_only or one.home_msp == document.home_msp)
    ]


def _to(
    owner: str,
    event: events_pb2.TransactionCommitted,
    entry: state_pb2.AuditEntry,
    kind: str,
    hears: Hears,
) -> list[Notice]:
    return [_notice(event, entry, kind, owner)] if owner and hears(owner) else []


def _notice(
    event: events_pb2.TransactionCommitted, entry: state_pb2.AuditEntry, kind: str, owner: str
) -> Notice:
    about = entry.patient or entry.subject
    return Notice(
        *(owner, kind, event.tx_id, event.block, event.at_ms),
        actor=entry.on_behalf_of or entry.signer,
        actor_msp=entry.signer_msp,
        record_id=entry.record_id,
        version=entry.version,
        category=entry.category,
        purpose=entry.purpose,
        consent_id=entry.consent_id,
        code=entry.objection or entry.code,
        command_id=entry.command_id,
        subject="" if about == owner else about,
    )


def _about(
    event: events_pb2.TransactionCommitted, document: state_pb2.IdentityDocument, kind: str, owner: str
) -> Notice:
    """A notice about a change of an identity; who did it is in the entry that changed it last."""
    of_it = (one for one in reversed(event.entries) if one.subject == document.address)
    entry = next((one for one in of_it if one.code == code_pb2.CODE_OK), None)
    return Notice(
        *(owner, kind, event.tx_id, event.block, event.at_ms),
        actor=(entry.on_behalf_of or entry.signer) if entry is not None else "",
        actor_msp=entry.signer_msp if entry is not None else "",
        command_id=entry.command_id if entry is not None else document.registration_id,
        subject="" if owner == document.address else document.address,
    )


def _identity(document: state_pb2.IdentityDocument) -> Identity:
    return Identity(document.address, document.role, document.home_msp, document.status, document.version)
