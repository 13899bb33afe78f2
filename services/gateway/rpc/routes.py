"""The one table of what the gateway answers: method, who answers it, and who may call.

A method that is not here is not offered, whatever a service behind the gateway has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Target(Enum):
    """Who answers."""

    GATEWAY = "gateway"
    IDENTITY = "identity"
    NOTIFY = "notify"


class Authentication(Enum):
    """What a caller shows."""

    ANONYMOUS = "nothing"
    ENROLLED = "a certificate of a member's CA for identities, registered or not"
    SESSION = "a token bound to the connection's certificate"
    SERVICE = "the certificate of a member's service"


class Throttled(Enum):
    """What is limited by where the caller is, since it costs something before anybody knows who calls."""

    ENROLMENT = "enrolment"
    REGISTRATION = "registration"
    CHALLENGE = "challenge"
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class Route:
    """One method.

    roles          of the session that may call; empty: any. What else is needed, the target checks
    first_contact  answered on the port without client certificates too
    changes_state  an answer that got lost may have happened
    takes_away     also for a suspended patient, who may still take consent away with it
    throttle       which of the limits for a source it is counted by, before anything else of it is looked at
    """

    method: str
    target: Target
    authentication: Authentication
    roles: frozenset[str] = frozenset()
    first_contact: bool = False
    changes_state: bool = False
    takes_away: bool = False
    throttle: Throttled | None = None


_ADMINISTRATOR = frozenset({"administrator"})
_PATIENT = frozenset({"patient"})
_CLINICIAN = frozenset({"clinician"})
_REVIEWERS = frozenset({"administrator", "privacy_officer"})

_OWN, _IDENTITY, _NOTIFY = Target.GATEWAY, Target.IDENTITY, Target.NOTIFY
_ANYONE, _ENROLLED = Authentication.ANONYMOUS, Authentication.ENROLLED
_SESSION, _SERVICE = Authentication.SESSION, Authentication.SERVICE

_ENROL, _REGISTER = Throttled.ENROLMENT, Throttled.REGISTRATION
_CHALLENGE, _LOG_IN = Throttled.CHALLENGE, Throttled.LOGIN

_GATEWAY = "/cbmdhi.gateway.v1."
_ENROLMENT = "/cbmdhi.identity.v1.EnrolmentService/"
_REGISTRATION = "/cbmdhi.identity.v1.RegistrationService/"
_SESSIONS = "/cbmdhi.identity.v1.SessionService/"
_REVOCATIONS = "/cbmdhi.identity.v1.RevocationService/"
_INBOX = "/cbmdhi.notify.v1.InboxService/"

INGEST = f"{_GATEWAY}IngestService/Ingest"
LOGIN = f"{_SESSIONS}Login"

# fmt: off
_TABLE = (
    Route(INGEST, _OWN, _SESSION),
    Route(f"{_GATEWAY}CommandService/Submit", _OWN, _SESSION, takes_away=True),
    Route(f"{_GATEWAY}CommandService/GetReceipt", _OWN, _SESSION, takes_away=True),
    Route(f"{_GATEWAY}RecordService/Read", _OWN, _SESSION),
    Route(f"{_GATEWAY}RecordService/ReadMany", _OWN, _SESSION),
    Route(f"{_GATEWAY}RecordService/ReadInEmergency", _OWN, _SESSION, roles=_CLINICIAN),
    Route(f"{_GATEWAY}RecordService/GetStandstill", _OWN, _SESSION),
    Route(f"{_GATEWAY}RecordService/ListEmergencies", _OWN, _SESSION, roles=_REVIEWERS),
    Route(f"{_GATEWAY}RecordService/GetLatestVersions", _OWN, _SESSION),
    Route(f"{_GATEWAY}RecordService/ListRecords", _OWN, _SESSION),
    Route(f"{_GATEWAY}RecordService/ListConsents", _OWN, _SESSION, roles=_PATIENT, takes_away=True),
    Route(f"{_GATEWAY}RecordService/ListAudit", _OWN, _SESSION, roles=_PATIENT),
    Route(f"{_GATEWAY}RecordService/GetBrokenGlass", _OWN, _SESSION, roles=_REVIEWERS),
    Route(f"{_GATEWAY}RecordService/GetProof", _OWN, _ENROLLED),
    Route(f"{_GATEWAY}RecordService/GetBlob", _OWN, _SESSION),

    Route(f"{_ENROLMENT}Invite", _IDENTITY, _SESSION, roles=_ADMINISTRATOR, changes_state=True),
    Route(f"{_ENROLMENT}Enrol", _IDENTITY, _ANYONE, first_contact=True, changes_state=True, throttle=_ENROL),
    Route(f"{_REGISTRATION}ListReviewers", _IDENTITY, _ENROLLED),
    Route(f"{_REGISTRATION}Register", _IDENTITY, _ENROLLED, changes_state=True, throttle=_REGISTER),
    Route(f"{_REGISTRATION}GetOwnIdentity", _IDENTITY, _ENROLLED),
    Route(f"{_REGISTRATION}ListPendingReviews", _IDENTITY, _SESSION, roles=_ADMINISTRATOR),
    Route(f"{_REGISTRATION}GetEvidence", _IDENTITY, _SESSION, roles=_ADMINISTRATOR),
    Route(f"{_REGISTRATION}Review", _IDENTITY, _SESSION, roles=_ADMINISTRATOR, changes_state=True),
    Route(f"{_REGISTRATION}GetIdentity", _IDENTITY, _SESSION),
    Route(f"{_SESSIONS}Challenge", _IDENTITY, _ANYONE, first_contact=True, throttle=_CHALLENGE),
    Route(LOGIN, _IDENTITY, _ANYONE, first_contact=True, throttle=_LOG_IN),
    Route(f"{_SESSIONS}GetTokenKeys", _IDENTITY, _SERVICE),
    Route(f"{_REVOCATIONS}GetRevocations", _IDENTITY, _SERVICE),

    Route(f"{_INBOX}List", _NOTIFY, _SESSION),
    Route(f"{_INBOX}Acknowledge", _NOTIFY, _SESSION, changes_state=True),
    Route(f"{_INBOX}Stream", _NOTIFY, _SESSION),
)
# fmt: on

ROUTES = {route.method: route for route in _TABLE}
