"""What the service knows without any I/O."""

import pytest

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2
from cbmdhi.protocol.state_keys import (
    audit_key,
    consent_key,
    identity_key,
    member_key,
    record_key,
    sealed_writer_key_name,
    writer_key_state_key,
)
from services.ledger.domain.batches import (
    Lane,
    batch_bytes,
    envelope_bytes,
    halves,
    lane_of,
    sealed_keys,
)
from services.ledger.domain.failures import Remedy, leading_code, of_endorsement
from services.ledger.domain.receipts import MalformedResult, check_shape
from services.ledger.domain.transactions import (
    Change,
    CommittedTransaction,
    MalformedState,
    event_of,
    facts_of,
    told,
)
from services.ledger.domain.wire import repeated_field
from tests.support.fakes.fabric_channel import consent, of_record, put_record, submission


@pytest.mark.parametrize(
    ("bodies", "lane"),
    [
        ([put_record()], Lane.RECORDS),
        ([command_pb2.Access()], Lane.RECORDS),
        ([command_pb2.BreakGlass()], Lane.DOCUMENTS),
        ([command_pb2.ReviewBreakGlass()], Lane.DOCUMENTS),
        ([consent()], Lane.DOCUMENTS),
        ([command_pb2.RevokeConsent()], Lane.DOCUMENTS),
        ([command_pb2.RegisterIdentity()], Lane.DOCUMENTS),
        ([command_pb2.ReviewRegistration()], Lane.DOCUMENTS),
        ([command_pb2.SuspendIdentity()], Lane.DOCUMENTS),
        ([command_pb2.SetPolicy()], Lane.DOCUMENTS),
        ([put_record(), consent()], Lane.DOCUMENTS),
    ],
)
def test_what_changes_shared_documents_has_a_lane_of_its_own(bodies: list[object], lane: Lane) -> None:
    assert lane_of(submission(*bodies)) is lane


def test_what_cannot_be_read_travels_with_the_records() -> None:
    garbage = of_record()
    garbage.item.group.commands[0].command = b"\xff"

    assert lane_of(garbage) is Lane.RECORDS


def test_a_record_is_reckoned_at_what_was_measured() -> None:
    one = of_record()
    one.item.group.commands[0].command += b"\0" * (380 - one.item.ByteSize())

    assert 1_200 < envelope_bytes(one.ByteSize(), 1) < 1_600


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 300_000])
def test_a_field_made_of_serialized_parts_is_the_field_that_protobuf_makes(size: int) -> None:
    values = [b"v" * size, b"", b"w" * size]
    whole = state_pb2.QueryResult(values=values)

    assert repeated_field(state_pb2.QueryResult.VALUES_FIELD_NUMBER, values) == whole.SerializeToString()


def test_a_batch_is_the_items_in_order() -> None:
    sent = [of_record(), submission(put_record(), consent())]

    assert list(state_pb2.Batch.FromString(batch_bytes(sent)).items) == [one.item for one in sent]


def test_a_batch_brings_each_seal_once_and_no_other() -> None:
    seals = [state_pb2.SealedBatch(root_sha256=bytes((n,)) * 32, contents=bytes(64)) for n in range(3)]
    sent = [of_record() for _ in range(4)]
    for one, seal in zip(sent, (seals[0], seals[1], seals[0], seals[0]), strict=True):
        one.item.contents.add(cid="a CID", root_sha256=seal.root_sha256)
    held = {seal.root_sha256: seal.SerializeToString() for seal in seals}

    batch = state_pb2.Batch.FromString(batch_bytes(sent, held))

    assert list(batch.items) == [one.item for one in sent]
    assert list(batch.seals) == seals[:2]
    assert list(state_pb2.Batch.FromString(batch_bytes(sent[2:], held)).seals) == seals[:1]


def test_sealed_keys_count_and_travel_once() -> None:
    one = of_record()
    bare = one.ByteSize()
    one.sealed_keys.add(msp="MercyMSP", key=sealed_writer_key_name("MercyMSP", "1"), sealed=b"s" * 1_000)
    other = of_record()
    other.sealed_keys.add(msp="MercyMSP", key=sealed_writer_key_name("MercyMSP", "1"), sealed=b"t")

    assert envelope_bytes(one.ByteSize(), 1) > envelope_bytes(bare, 1) + 1_000
    assert [key.sealed for key in sealed_keys([one, other, one])] == [b"s" * 1_000, b"t"]
    assert not sealed_keys([of_record()])


@pytest.mark.parametrize("count", [2, 3, 7])
def test_halves_make_the_whole_in_order(count: int) -> None:
    whole = [of_record() for _ in range(count)]

    first, second = halves(whole)

    assert [*first, *second] == whole
    assert first
    assert second


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("CODE_INVALID: batch: no items", code_pb2.CODE_INVALID),
        ("CODE_UNAVAILABLE", code_pb2.CODE_UNAVAILABLE),
        ("the chaincode said CODE_INVALID: no", None),
        ("CODE_OF_CONDUCT: be kind", None),
        ("CODE_INVALIDATED", None),
        ("", None),
    ],
)
def test_of_a_chaincodes_message_only_the_leading_code_counts(message: str, code: int | None) -> None:
    assert leading_code((message,)) == code


def test_a_reason_never_quotes_what_a_peer_said() -> None:
    failure = of_endorsement("ABORTED", ("CODE_FORBIDDEN: creator: secret",))

    assert failure.code == code_pb2.CODE_FORBIDDEN
    assert failure.remedy is Remedy.GIVE_UP
    assert "secret" not in failure.reason


def test_a_result_short_of_one_verdict_is_malformed() -> None:
    result = state_pb2.BatchResult(groups=[state_pb2.GroupVerdict(verdicts=[state_pb2.Verdict()])])

    check_shape([of_record()], result)
    with pytest.raises(MalformedResult):
        check_shape([of_record(), of_record()], result)
    with pytest.raises(MalformedResult):
        check_shape([submission(put_record(), consent())], result)


def transaction(*changes: Change) -> CommittedTransaction:
    return CommittedTransaction("tx", 5, 1_000, facts_of(changes))


def audit(number: int) -> Change:
    entry = state_pb2.AuditEntry(command_id=str(number), signer="s")
    return Change(audit_key(number, "s"), entry.SerializeToString())


def test_an_event_says_no_more_than_that_there_is_a_transaction() -> None:
    event = events_pb2.TransactionCommitted.FromString(event_of("cbmdhi", transaction(audit(1))))

    assert event == events_pb2.TransactionCommitted(channel="cbmdhi", tx_id="tx", block=5, at_ms=1_000)


def test_what_is_told_holds_entries_and_identities_as_they_are_committed() -> None:
    entry = state_pb2.AuditEntry(command_id="1", signer="s", reason="permitted")
    someone = state_pb2.IdentityDocument(address="cb1x", version=2)
    changes = (
        Change(identity_key("cb1x"), someone.SerializeToString()),
        Change(audit_key("1", "s"), entry.SerializeToString()),
    )

    assert told("cbmdhi", transaction(*changes)) == events_pb2.TransactionCommitted(
        channel="cbmdhi", tx_id="tx", block=5, at_ms=1_000, entries=[entry], identities=[someone]
    )


def test_facts_are_read_by_key_and_what_is_not_listed_is_left_out() -> None:
    facts = facts_of(
        [
            audit(1),
            Change(consent_key("cb1x"), b"\xff not looked at"),
            Change(writer_key_state_key("MercyMSP", "1"), b"\xff"),
            Change(member_key("MercyMSP"), b"\xff"),
            Change(record_key("r", 10), None),
            Change(audit_key("2", "s"), None),
        ]
    )

    assert [entry.message.command_id for entry in facts.entries] == ["1"]
    assert facts.dropped_records == [("r", 10)]


@pytest.mark.parametrize("key", [identity_key("x"), record_key("r", 1), audit_key("1", "s")])
def test_a_value_that_is_not_what_its_key_says_is_malformed(key: str) -> None:
    with pytest.raises(MalformedState):
        facts_of([Change(key, b"\xff\xff")])
