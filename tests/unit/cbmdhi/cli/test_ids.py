"""Ids are typed by their beginning, as they are shown; long lists come by page, what is alike together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cbmdhi.cli import listing, prefixes, shared
from cbmdhi.cli.exits import Status
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import ActiveConsent, AuditEntry, ConsentDocument, RecordVersion
from cbmdhi.errors import MeshError, Misuse
from cbmdhi.ledger.v1.ledger_pb2 import CommittedAuditEntry
from cbmdhi.notify.v1.notify_pb2 import Notification
from cbmdhi.verify import Verification
from cbmdhi.wallet import Wallet
from tests.unit.cbmdhi.cli.conftest import Typed

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"
FIRST = "01a22d4c-e6d0-7195-af6f-7062e602180b"
SECOND = "01a22d4c-e6d0-7195-af6f-7062e602180c"
THIRD = "01a22e00-0000-7195-af6f-7062e6021800"


@pytest.mark.parametrize("typed", ["01a22e", "01a22e…", THIRD, "01a22e00-0"])
def test_a_beginning_that_only_one_has_is_that_one(typed: str) -> None:
    assert prefixes.resolved(typed, [FIRST, SECOND, THIRD], "record") == THIRD


def test_a_beginning_that_several_have_is_told_with_them() -> None:
    with pytest.raises(Misuse, match=f"2 begin with '01a22d': .*{FIRST}, {SECOND}"):
        prefixes.resolved("01a22d", [FIRST, SECOND, THIRD], "record")


def test_a_beginning_that_none_has_is_told() -> None:
    with pytest.raises(Misuse, match=f"no record begins with 'ff'; there are: {FIRST}$"):
        prefixes.resolved("ff", [FIRST], "record")
    with pytest.raises(Misuse, match=r"no record begins with 'ff', nor is there any other$"):
        prefixes.resolved("ff", [], "record")


def test_of_many_that_were_not_meant_the_first_few_are_told() -> None:
    with pytest.raises(Misuse, match=r"there are: a0, a1, a2, a3, a4, …$"):
        prefixes.resolved("ff", [f"a{number}" for number in range(9)], "record")


def test_an_id_that_is_the_beginning_of_another_is_itself() -> None:
    assert prefixes.resolved("ab", ["ab", "abc"], "one") == "ab"


def test_what_is_shown_of_ids_is_short_and_can_be_typed() -> None:
    short = prefixes.shortening([FIRST, SECOND, THIRD])
    for one in (FIRST, SECOND, THIRD):
        assert prefixes.resolved(short(one), [FIRST, SECOND, THIRD], "one") == one
    assert prefixes.shortening([FIRST, THIRD])(THIRD) == "01a22e00…"


class Mesh(SimpleNamespace):
    """As much of a client as the commands ask; `asked` is what was asked for."""

    def __init__(self, wallet: Wallet) -> None:
        super().__init__(
            wallet=wallet, records=self, consents=self, trail=self, inbox=self, member=_home(wallet), asked=[]
        )
        self.notifications: list[Notification] = []
        self.entries: list[CommittedAuditEntry] = []
        self.acknowledged: list[int] = []
        self.may_search = True
        self.holds: tuple[str, ...] = (FIRST, THIRD)

    async def __aenter__(self) -> Mesh:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def list(self, *of: Any, **how: Any) -> Any:
        if "unacknowledged_only" in how or (not of and not how and self.notifications):
            return self.notifications
        if of:
            if not self.may_search:
                raise MeshError(code_pb2.CODE_FORBIDDEN, "no")
            return [RecordVersion(record_id=one) for one in self.holds]
        return ConsentDocument(consents=[ActiveConsent(consent_id=one) for one in (FIRST, THIRD)])

    async def read(self, *of: Any) -> Any:
        self.asked.append(of)
        raise MeshError(code_pb2.CODE_NOT_FOUND, "no more is needed here")

    async def grant(self, line: Any) -> Any:
        self.asked.append(line)
        raise MeshError(code_pb2.CODE_NOT_FOUND, "no more is needed here")

    async def revoke(self, consent_id: str) -> Any:
        self.asked.append(consent_id)
        raise MeshError(code_pb2.CODE_NOT_FOUND, "no more is needed here")

    async def audit(self) -> Sequence[CommittedAuditEntry]:
        return self.entries

    async def acknowledge(self, ids: Sequence[int]) -> int:
        self.acknowledged += ids
        return len(ids)


def _home(wallet: Wallet) -> Any:
    return wallet.consortium.member_named(wallet.member)


@pytest.fixture
def mesh(home: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    made = Mesh(Wallet.load(home / "wallets" / "anna"))
    (home / "consortium.json").unlink()
    monkeypatch.setattr(shared, "Client", lambda *_: made)
    return made


def test_a_record_is_read_by_the_beginning_of_its_id(typed: Typed, mesh: Mesh) -> None:
    typed("get", "01a22e/3", "-p", SOMEBODY)
    assert mesh.asked[0][1:3] == (THIRD, 3)


def test_who_may_not_search_is_told_to_type_the_whole_id(typed: Typed, mesh: Mesh) -> None:
    mesh.may_search = False
    told = typed("get", "01a22e", "-p", SOMEBODY)
    assert (told.exit_code, "type it whole" in told.output, mesh.asked) == (Status.MISTYPED, True, [])
    typed("get", THIRD, "-p", SOMEBODY)
    assert mesh.asked[0][1] == THIRD


def test_who_may_search_nothing_is_told_to_type_the_whole_id(typed: Typed, mesh: Mesh) -> None:
    mesh.holds = ()
    told = typed("get", "01a22e", "-p", SOMEBODY)
    assert (told.exit_code, "'01a22e' whole" in told.output, mesh.asked) == (Status.MISTYPED, True, [])


def test_a_patient_lists_their_own_and_anybody_else_names_whose(typed: Typed, mesh: Mesh) -> None:
    own = typed("list", "--json")
    assert own.exit_code == Status.DONE, own.output
    mesh.wallet.role = pb.ROLE_ENGINE
    told = typed("list")
    assert (told.exit_code, "-p ADDRESS" in told.output) == (Status.MISTYPED, True), told.output
    assert "no records" not in told.output


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("LakesidMSP", "did you mean LakesideMSP?"),
        ("lakesid:clinician", "did you mean LakesideMSP?"),
        ("NorthgateMSP", "there are: LakesideMSP, MercyMSP"),
        ("mercy:clinicain", "did you mean clinician?"),
        ("Clinician", "did you mean clinician?"),
        (":clinician", "no member ''; there are: LakesideMSP, MercyMSP"),
    ],
)
def test_a_consent_to_nobody_is_told_with_those_that_there_are(
    to: str, says: str, typed: Typed, mesh: Mesh
) -> None:
    told = typed("consent", "grant", to)
    assert (told.exit_code, says in told.output, mesh.asked) == (Status.MISTYPED, True, []), told.output


@pytest.mark.parametrize(
    ("to", "msp", "role"),
    [
        ("LakesideMSP:clinician", "LakesideMSP", pb.ROLE_CLINICIAN),
        ("lakeside", "LakesideMSP", pb.ROLE_UNSPECIFIED),
        ("clinician", "", pb.ROLE_CLINICIAN),
    ],
)
def test_a_consent_is_to_a_member_or_a_role(to: str, msp: str, role: int, typed: Typed, mesh: Mesh) -> None:
    typed("consent", "grant", to)
    (grantee,) = mesh.asked[0].grantees
    assert (grantee.msp, grantee.role) == (msp, role)


def test_a_consent_is_taken_back_by_the_beginning_of_its_id(typed: Typed, mesh: Mesh) -> None:
    typed("consent", "revoke", "01a22e")
    assert mesh.asked == [THIRD]


def test_a_patient_whose_wallet_is_here_is_named_by_the_beginning_of_the_address(
    typed: Typed, mesh: Mesh
) -> None:
    typed("get", THIRD, "-p", mesh.wallet.address[:9])
    assert mesh.asked[0][0] == mesh.wallet.address
    told = typed("get", THIRD, "-p", "cb1aaaaaaaa")
    assert (told.exit_code, "begins with" in told.output) == (Status.MISTYPED, True)


def test_a_receipt_is_verified_by_the_beginning_of_its_ids(
    typed: Typed, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.notifications = [Notification(tx_id="ab" * 32, command_id=FIRST)]
    mesh.entries = [_entry(THIRD, tx_id="cd" * 32)]
    verified: list[tuple[Any, ...]] = []

    async def verify(_: Any, *ids: Any) -> Verification:
        verified.append(ids)
        found = Verification("", "")
        found.passed("all", "well")
        return found

    monkeypatch.setattr("cbmdhi.cli.verify.verify_receipt", verify)
    assert typed("verify", "abab", "01a22d").exit_code == Status.DONE
    assert typed("verify", "01a22e").exit_code == Status.DONE
    assert typed("verify", "cdcd").exit_code == Status.DONE
    assert typed("verify", "ab" * 32).exit_code == Status.DONE
    first, third = ("ab" * 32, FIRST, ""), ("cd" * 32, THIRD, "")
    assert verified == [first, (None, THIRD, ""), third, first]
    mesh.notifications.append(Notification(tx_id="ab" * 32, command_id=SECOND))
    told = typed("verify", "abab").output
    assert FIRST in told
    assert SECOND in told


def _entry(command_id: str, action: str = "read", at_ms: int = 0, tx_id: str = "") -> CommittedAuditEntry:
    entry = AuditEntry(command_id=command_id, action=action, at_ms=at_ms, tx_id=tx_id, signer=SOMEBODY)
    entry.record_id = command_id
    return CommittedAuditEntry(entry=entry)


def _ids(count: int) -> list[str]:
    return [f"01a22d4c-e6d0-7195-af6f-{number:012d}" for number in range(count)]


def test_the_audit_trail_comes_newest_first_by_page_and_what_is_alike_in_one_row(
    typed: Typed, mesh: Mesh
) -> None:
    ids = _ids(30)
    mesh.entries = [_entry(one, "write", at_ms=number * 1000) for number, one in enumerate(ids)]
    mesh.entries.append(_entry(THIRD, "read", at_ms=40_000))
    rows = [row.split() for row in typed("audit").output.splitlines() if "zcyn" in row]
    assert [(row[-1][:6], "30" in row) for row in rows] == [("01a22e", False), ("comman", True)]
    each = typed("audit", "--each")
    assert len([row for row in each.output.splitlines() if "zcyn" in row]) == listing.ROWS
    assert "page 1 of 2; the next: --page 2" in each.stderr
    last = typed("audit", "--each", "--page", "2")
    assert len([row for row in last.output.splitlines() if "zcyn" in row]) == 11
    assert "--page 3" not in last.stderr


def test_a_page_that_there_is_not_is_told(typed: Typed, mesh: Mesh) -> None:
    mesh.entries = [_entry(FIRST)]
    told = typed("audit", "--page", "2")
    assert (told.exit_code, "the last is 1" in told.output) == (Status.MISTYPED, True)


def test_machines_get_all_of_it_and_what_was_asked_for(typed: Typed, mesh: Mesh) -> None:
    mesh.entries = [_entry(one) for one in _ids(50)]
    assert len(json.loads(typed("audit", "--json").stdout)) == 50
    assert len(json.loads(typed("audit", "--json", "--record", mesh.entries[7].entry.record_id).stdout)) == 1
    assert json.loads(typed("audit", "--json", "--who", "cb1aaaa").stdout) == []


def test_only_the_page_that_is_shown_is_marked_as_seen(typed: Typed, mesh: Mesh) -> None:
    mesh.notifications = [
        Notification(notification_id=number, kind="record.written", command_id=one, record_id=one)
        for number, one in enumerate(_ids(30), 1)
    ]
    typed("inbox", "--ack", "--each", "--rows", "5", "--page", "2")
    assert mesh.acknowledged == [6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("number", "says"), [(0, "0 members"), (1, "1 member"), (2, "2 members"), (1000, "1,000 members")]
)
def test_one_member_is_no_members(number: int, says: str) -> None:
    assert shared.counted(number, "member") == says
