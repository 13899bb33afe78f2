"""Who is told what."""

from collections.abc import Mapping

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2
from services.notify import domain
from services.notify.domain import Announcement, wants_review
from services.notify.notices import Identity, ReviewRule
from tests.support.fakes.notify_events import (
    CLINICIAN,
    DEVICE,
    LAKESIDE_ADMIN,
    MERCY_ADMIN,
    MERCY_OFFICER,
    PATIENT,
    RULES,
    document,
    entry,
    event,
    identity,
)

STAFF = [identity(MERCY_ADMIN), identity(LAKESIDE_ADMIN), identity(MERCY_OFFICER)]
PENDING = state_pb2.IDENTITY_STATUS_PENDING
ACTIVE = state_pb2.IDENTITY_STATUS_ACTIVE


def announce(
    happened: events_pb2.TransactionCommitted,
    before: Mapping[str, Identity],
    staff: list[Identity],
    rules: list[ReviewRule] | None,
) -> Announcement:
    """What the two members tell between them."""
    each = [domain.announce(happened, before, staff, rules, home) for home in ("MercyMSP", "LakesideMSP")]
    notices = dict.fromkeys(notice for one in each for notice in one.notices)
    return Announcement(list(notices), each[0].identities)


def told(announcement: Announcement) -> set[tuple[str, str]]:
    return {(notice.owner, notice.kind) for notice in announcement.notices}


def known(*identities: Identity) -> dict[str, Identity]:
    return {one.address: one for one in identities}


def test_a_patient_who_registers_is_told_so_and_every_members_administrator_is_asked_to_review() -> None:
    happened = event(
        entry("register", PATIENT, subject=PATIENT), identities=(document(PATIENT, status=PENDING),)
    )

    assert wants_review(happened, {})
    assert told(announce(happened, {}, STAFF, RULES)) == {
        (PATIENT, "registration.requested"),
        (MERCY_ADMIN, "review.wanted"),
        (LAKESIDE_ADMIN, "review.wanted"),
    }


def test_a_review_that_is_wanted_names_the_registration_and_whom_it_is_about() -> None:
    happened = event(
        entry("register", PATIENT, subject=PATIENT), identities=(document(PATIENT, status=PENDING),)
    )
    wanted = next(n for n in announce(happened, {}, STAFF, RULES).notices if n.kind == "review.wanted")

    assert (wanted.subject, wanted.command_id, wanted.actor) == (PATIENT, "register-by-p", PATIENT)
    assert (wanted.tx_id, wanted.block, wanted.at_ms) == ("tx1", 7, 1_000)


def test_a_clinicians_registration_is_for_the_home_members_administrator_alone() -> None:
    happened = event(
        entry("register", CLINICIAN, subject=CLINICIAN), identities=(document(CLINICIAN, status=PENDING),)
    )

    assert told(announce(happened, {}, STAFF, RULES)) == {
        (CLINICIAN, "registration.requested"),
        (LAKESIDE_ADMIN, "review.wanted"),
    }


def test_without_the_rules_every_member_is_asked() -> None:
    happened = event(
        entry("register", CLINICIAN, subject=CLINICIAN), identities=(document(CLINICIAN, status=PENDING),)
    )

    assert (MERCY_ADMIN, "review.wanted") in told(announce(happened, {}, STAFF, None))


def test_a_member_that_has_voted_in_the_same_transaction_is_not_asked() -> None:
    happened = event(
        entry("register", PATIENT, subject=PATIENT),
        entry("review", MERCY_ADMIN, subject=PATIENT, patient=PATIENT),
        identities=(document(PATIENT, status=PENDING, version=2, voted=("MercyMSP",)),),
    )

    wanted = {owner for owner, kind in told(announce(happened, {}, STAFF, RULES)) if kind == "review.wanted"}
    assert wanted == {LAKESIDE_ADMIN}


def test_the_first_review_is_told_and_asks_nobody_again() -> None:
    happened = event(
        entry("review", MERCY_ADMIN, subject=PATIENT, patient=PATIENT),
        identities=(document(PATIENT, status=PENDING, version=2, voted=("MercyMSP",)),),
    )
    before = known(identity(PATIENT, PENDING))

    assert not wants_review(happened, before)
    assert told(announce(happened, before, STAFF, RULES)) == {(PATIENT, "registration.reviewed")}


def test_the_review_that_completes_the_quorum_activates() -> None:
    happened = event(
        entry("review", LAKESIDE_ADMIN, subject=PATIENT, patient=PATIENT),
        identities=(document(PATIENT, version=3),),
    )
    result = announce(happened, known(identity(PATIENT, PENDING, 2)), STAFF, RULES)

    assert told(result) == {(PATIENT, "registration.reviewed"), (PATIENT, "registration.activated")}
    assert {notice.actor for notice in result.notices} == {LAKESIDE_ADMIN}
    assert result.identities == [identity(PATIENT, ACTIVE, 3)]


def test_a_rejection_is_told() -> None:
    happened = event(
        entry("review", LAKESIDE_ADMIN, subject=PATIENT, patient=PATIENT),
        identities=(document(PATIENT, state_pb2.IDENTITY_STATUS_REJECTED, 2),),
    )

    assert (PATIENT, "registration.rejected") in told(
        announce(happened, known(identity(PATIENT, PENDING)), STAFF, RULES)
    )


def test_an_administrator_who_becomes_active_is_told_and_asked_from_then_on() -> None:
    first = event(
        entry("register", MERCY_ADMIN, subject=MERCY_ADMIN),
        entry("register", PATIENT, subject=PATIENT),
        identities=(document(MERCY_ADMIN), document(PATIENT, status=PENDING)),
    )

    assert told(announce(first, {}, [], RULES)) == {
        (MERCY_ADMIN, "registration.requested"),
        (MERCY_ADMIN, "registration.activated"),
        (PATIENT, "registration.requested"),
        (MERCY_ADMIN, "review.wanted"),
    }


def test_an_administrator_who_is_suspended_in_this_transaction_is_asked_no_more() -> None:
    happened = event(
        entry("suspend", MERCY_ADMIN, subject=MERCY_ADMIN),
        entry("register", PATIENT, subject=PATIENT),
        identities=(
            document(MERCY_ADMIN, state_pb2.IDENTITY_STATUS_SUSPENDED, 2),
            document(PATIENT, status=PENDING),
        ),
    )
    result = told(announce(happened, known(identity(MERCY_ADMIN)), STAFF, RULES))

    assert (MERCY_ADMIN, "identity.suspended") in result
    assert (MERCY_ADMIN, "review.wanted") not in result
    assert (LAKESIDE_ADMIN, "review.wanted") in result


def test_a_reinstated_identity_is_told_so_and_not_that_it_was_activated() -> None:
    happened = event(
        entry("suspend", MERCY_ADMIN, subject=PATIENT, patient=PATIENT),
        identities=(document(PATIENT, version=5),),
    )
    before = known(identity(PATIENT, state_pb2.IDENTITY_STATUS_SUSPENDED, 4))

    assert told(announce(happened, before, STAFF, RULES)) == {(PATIENT, "identity.reinstated")}


def test_an_older_document_that_comes_late_changes_nothing() -> None:
    late = event(identities=(document(PATIENT, status=PENDING, version=1),))

    assert announce(late, known(identity(PATIENT, ACTIVE, 3)), STAFF, RULES) == Announcement()


@pytest.mark.parametrize(
    ("action", "kind"),
    [("write", "record.written"), ("consent", "consent.given"), ("revoke", "consent.revoked")],
)
def test_a_patient_is_told_of_what_was_done_and_not_of_what_was_refused(action: str, kind: str) -> None:
    done = event(entry(action, CLINICIAN, patient=PATIENT))
    refused = event(entry(action, CLINICIAN, patient=PATIENT, code=code_pb2.CODE_FORBIDDEN))

    assert told(announce(done, {}, STAFF, RULES)) == {(PATIENT, kind)}
    assert told(announce(refused, {}, STAFF, RULES)) == set()


@pytest.mark.parametrize("action", ["read", "search", "history", "export"])
def test_a_patient_is_told_of_every_access_permitted_or_refused(action: str) -> None:
    permitted = event(
        entry(action, CLINICIAN, patient=PATIENT, record_id="r", version=2, purpose="TREAT", category="lab")
    )
    refused = event(entry(action, CLINICIAN, patient=PATIENT, code=code_pb2.CODE_FORBIDDEN))

    (notice,) = announce(permitted, {}, STAFF, RULES).notices
    assert (notice.owner, notice.kind, notice.actor) == (PATIENT, "access.permitted", CLINICIAN)
    assert (notice.record_id, notice.version, notice.purpose, notice.category) == ("r", 2, "TREAT", "lab")
    assert notice.subject == ""
    (notice,) = announce(refused, {}, STAFF, RULES).notices
    assert (notice.kind, notice.code) == ("access.refused", code_pb2.CODE_FORBIDDEN)


def test_the_actor_of_a_delegated_command_is_the_person_behind_the_device() -> None:
    happened = event(entry("read", DEVICE, patient=PATIENT, on_behalf_of=CLINICIAN))

    (notice,) = announce(happened, {}, STAFF, RULES).notices
    assert notice.actor == CLINICIAN


def test_a_break_glass_is_told_to_the_patient_and_put_before_the_reviewers_of_every_member() -> None:
    happened = event(entry("break-glass", MERCY_ADMIN, patient=PATIENT))
    result = announce(happened, {}, STAFF, RULES)

    # Whoever broke it is not asked to review it.
    assert told(result) == {
        (PATIENT, "break-glass"),
        (MERCY_OFFICER, "break-glass"),
        (LAKESIDE_ADMIN, "break-glass"),
    }
    assert {notice.subject for notice in result.notices if notice.owner == MERCY_OFFICER} == {PATIENT}


def test_a_refused_break_glass_is_told_to_the_patient_alone() -> None:
    happened = event(entry("break-glass", MERCY_ADMIN, patient=PATIENT, code=code_pb2.CODE_FORBIDDEN))

    assert told(announce(happened, {}, STAFF, RULES)) == {(PATIENT, "break-glass")}


def reviewed(reviewer: str, finding: str) -> state_pb2.AuditEntry:
    return entry(
        "review-break-glass",
        reviewer,
        patient=PATIENT,
        subject=CLINICIAN,
        break_glass_id="glass",
        reason_code=finding,
    )


@pytest.mark.parametrize(
    ("finding", "code"), [("justified", code_pb2.CODE_OK), ("not-justified", code_pb2.CODE_FORBIDDEN)]
)
def test_what_each_member_finds_about_a_break_glass_is_told_to_patient_and_clinician(
    finding: str, code: int
) -> None:
    result = announce(event(reviewed(MERCY_OFFICER, finding)), {}, STAFF, RULES)

    assert told(result) == {(PATIENT, "break-glass.reviewed"), (CLINICIAN, "break-glass.reviewed")}
    assert {(n.actor, n.actor_msp, n.code, n.command_id) for n in result.notices} == {
        (MERCY_OFFICER, "MercyMSP", code, "glass")
    }


def test_a_refused_review_of_a_break_glass_tells_nobody() -> None:
    refused = reviewed(MERCY_OFFICER, "justified")
    refused.code = code_pb2.CODE_FORBIDDEN

    assert announce(event(refused), {}, STAFF, RULES) == Announcement()


def test_of_a_break_glass_each_member_tells_its_own_people() -> None:
    happened = event(reviewed(MERCY_OFFICER, "justified"), entry("break-glass", MERCY_ADMIN, patient=PATIENT))
    before = known(identity(PATIENT), identity(CLINICIAN))

    assert set(before) <= domain.concerned(happened)
    assert told(domain.announce(happened, before, STAFF, RULES, "MercyMSP")) == {
        (PATIENT, "break-glass.reviewed"),
        (PATIENT, "break-glass"),
        (MERCY_OFFICER, "break-glass"),
    }
    assert told(domain.announce(happened, before, STAFF, RULES, "LakesideMSP")) == {
        (CLINICIAN, "break-glass.reviewed"),
        (LAKESIDE_ADMIN, "break-glass"),
    }


def test_a_refused_registration_or_review_tells_nobody() -> None:
    happened = event(
        entry("register", CLINICIAN, subject=CLINICIAN, code=code_pb2.CODE_CONFLICT),
        entry("review", MERCY_ADMIN, subject=CLINICIAN, code=code_pb2.CODE_FORBIDDEN),
        entry("set-policy", MERCY_ADMIN),
    )

    assert announce(happened, {}, STAFF, RULES) == Announcement()


@pytest.mark.parametrize(
    "code", [code_pb2.CODE_NOT_FOUND, code_pb2.CODE_INACTIVE_SIGNER, code_pb2.CODE_GROUP_REFUSED]
)
@pytest.mark.parametrize("action", ["read", "break-glass", "write"])
def test_nobody_is_told_of_an_attempt_that_was_refused_before_it_was_decided(action: str, code: int) -> None:
    attempt = event(entry(action, CLINICIAN, patient=PATIENT, code=code))
    assert told(announce(attempt, {}, STAFF, RULES)) == set()


def test_who_changed_an_identity_is_not_who_was_refused_to() -> None:
    suspended = document(CLINICIAN, state_pb2.IDENTITY_STATUS_SUSPENDED, version=2)
    done = entry("suspend", LAKESIDE_ADMIN, subject=CLINICIAN)
    refused = entry("suspend", MERCY_ADMIN, subject=CLINICIAN, code=code_pb2.CODE_CONFLICT)
    (notice,) = announce(
        event(done, refused, identities=(suspended,)), {CLINICIAN: identity(CLINICIAN)}, STAFF, RULES
    ).notices
    assert notice.actor == LAKESIDE_ADMIN
