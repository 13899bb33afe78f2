"""What grant stands in a verified transaction."""

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import Batch, BatchItem, BatchResult, GroupVerdict, RecordVersion, Verdict
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.proof import VerifiedTransaction
from services.runtime.refusal import Refused
from services.storage.domain.decision import ReadGrant, check_age, derive_grant
from tests.support.channel import CHANNEL

MEMBERS = frozenset({"A", "B", "C", "D"})
AT_MS = 1_800_000_000_000
PATIENT, RECORD = "cb1" + "a" * 32, uuid7()
READ = RecordVersion(patient=PATIENT, record_id=RECORD, version=3)
ACCESS = pb.Access(patient=PATIENT, record_id=RECORD, version=3, purpose="TREAT", action="read")


def verified(
    *commands: tuple[command.KeySigner, str, int],
    endorsers: tuple[str, ...] = ("A", "B", "C"),
    read: RecordVersion = READ,
    body: pb.Access | pb.BreakGlass | pb.RevokeConsent = ACCESS,
) -> VerifiedTransaction:
    """A transaction of `body`s: (signer, command_id, code) each; `read`: of what their verdicts are."""
    signed = [
        signer.sign_command(command.make(body, channel=CHANNEL, command_id=command_id))
        for signer, command_id, _ in commands
    ]
    return VerifiedTransaction(
        tx_id="",
        block_number=7,
        valid=True,
        endorsers=endorsers,
        creator_msp="A",
        batch=Batch(items=[BatchItem(group=pb.CommandGroup(commands=[each])) for each in signed]),
        result=BatchResult(
            groups=[
                GroupVerdict(verdicts=[Verdict(command_id=command_id, code=code, record=read)])  # type: ignore[arg-type]
                for _, command_id, code in commands
            ]
        ),
        timestamp_ms=AT_MS,
    )


def signer(delegated: bool = False) -> command.KeySigner:
    stated = pb.Delegation(delegator="a clinician").SerializeToString()
    delegation = pb.SignedDelegation(delegation=stated) if delegated else None
    return command.KeySigner(signature.new_private_key(), delegation)


def test_a_permitted_access_grants_its_signer_that_version() -> None:
    reader, command_id = signer(), uuid7()
    grant = derive_grant(verified((reader, command_id, code_pb2.CODE_OK)), command_id, MEMBERS)
    assert grant == ReadGrant(
        *(reader.address, reader.address, "read", "TREAT", PATIENT, RECORD, 3, command_id, AT_MS)
    )


def test_of_a_delegated_access_the_reader_is_the_device() -> None:
    device, command_id = signer(delegated=True), uuid7()
    grant = derive_grant(verified((device, command_id, code_pb2.CODE_OK)), command_id, MEMBERS)
    assert (grant.reader, grant.actor) == (device.address, "a clinician")
    assert device.delegation is not None
    assert grant.delegation == device.delegation.delegation


def test_what_is_read_is_what_the_endorsers_signed() -> None:
    reader, command_id = signer(), uuid7()
    grant = derive_grant(verified((reader, command_id, code_pb2.CODE_OK)), command_id, MEMBERS)
    assert grant.record == READ


def test_a_broken_glass_grants_the_version_without_an_action_or_a_purpose() -> None:
    reader, command_id = signer(), uuid7()
    glass = pb.BreakGlass(patient=PATIENT, record_id=RECORD, version=3)
    grant = derive_grant(verified((reader, command_id, code_pb2.CODE_OK), body=glass), command_id, MEMBERS)
    assert grant == ReadGrant(
        *(reader.address, reader.address, "", "", PATIENT, RECORD, 3, command_id, AT_MS)
    )


def test_a_command_that_opens_nothing_grants_nothing_and_the_reader_is_told_why() -> None:
    command_id = uuid7()
    revoked = verified((signer(), command_id, code_pb2.CODE_OK), body=pb.RevokeConsent())
    with pytest.raises(Refused, match="not an access") as caught:
        derive_grant(revoked, command_id, MEMBERS)
    assert caught.value.code == code_pb2.CODE_FORBIDDEN


@pytest.mark.parametrize(
    "read",
    [
        RecordVersion(),
        RecordVersion(patient=PATIENT, record_id=uuid7(), version=3),
        RecordVersion(patient=PATIENT, record_id=RECORD, version=2),
        RecordVersion(patient="another", record_id=RECORD, version=3),
    ],
)
def test_a_verdict_about_another_version_than_was_asked_for_grants_nothing(read: RecordVersion) -> None:
    command_id = uuid7()
    transaction = verified((signer(), command_id, code_pb2.CODE_OK), read=read)
    with pytest.raises(Refused, match="another record"):
        derive_grant(transaction, command_id, MEMBERS)


@pytest.mark.parametrize("endorsers", [("A", "B"), ("A", "B", "X"), ("A", "A", "B"), ()])
def test_half_of_the_members_and_strangers_do_not_decide(endorsers: tuple[str, ...]) -> None:
    command_id = uuid7()
    transaction = verified((signer(), command_id, code_pb2.CODE_OK), endorsers=endorsers)
    with pytest.raises(Refused, match="more than half"):
        derive_grant(transaction, command_id, MEMBERS)


def test_a_neighbours_permit_is_not_ones_own() -> None:
    mine, theirs = uuid7(), uuid7()
    transaction = verified((signer(), theirs, code_pb2.CODE_OK), (signer(), mine, code_pb2.CODE_FORBIDDEN))
    with pytest.raises(Refused, match="refused"):
        derive_grant(transaction, mine, MEMBERS)


def test_a_command_that_is_not_in_the_transaction_grants_nothing() -> None:
    with pytest.raises(Refused, match="tx_id"):
        derive_grant(verified((signer(), uuid7(), code_pb2.CODE_OK)), uuid7(), MEMBERS)


@pytest.mark.parametrize(
    ("now_ms", "usable"),
    [
        (AT_MS, True),
        (AT_MS + 600_000, True),
        (AT_MS + 600_001, False),
        (AT_MS - 60_000, True),
        (AT_MS - 60_001, False),
    ],
)
def test_a_grant_is_used_in_its_time_alone(now_ms: int, usable: bool) -> None:
    grant = ReadGrant("", "", "", "", "", "", 1, "", AT_MS)
    try:
        check_age(grant, now_ms=now_ms, max_age_ms=600_000, max_skew_ms=60_000)
    except Refused:
        assert not usable
    else:
        assert usable
