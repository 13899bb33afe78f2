"""What a reader believes: the members' peers about what is committed, the author about what was meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.ledger.v1.ledger_pb2 import Evidence
from cbmdhi.protocol import command
from cbmdhi.protocol.evidence import Checked, People
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.proof import ProofError
from tests.support.channel import CHANNEL, REUSED_NAME
from tests.support.fakes.evidence import Committed, Person
from tests.support.fakes.fabric_blocks import Network

COMMITMENT, FORGED = bytes(32), bytes([1]) * 32


@pytest.fixture
def committed() -> Committed:
    return Committed()


def check_of(work: Callable[[], object]) -> str:
    with pytest.raises(ProofError) as caught:
        work()
    return caught.value.check


def test_a_version_that_its_author_signed_and_both_members_hold_is_proven(committed: Committed) -> None:
    author = committed.person()
    record = committed.put(author, COMMITMENT)
    proven = Checked(committed.of([record]), committed.network.trust, CHANNEL).version(record.record_id, 1)
    assert proven.record == record
    assert proven.endorsers == ("LakesideMSP", "MercyMSP")
    assert proven.signed.signer == author.address


def test_one_member_alone_proves_nothing(committed: Committed) -> None:
    record = committed.put(committed.person(), COMMITMENT)
    alone = committed.network.state(committed.values, endorsers=committed.network.peers[:1])
    assert check_of(lambda: given(committed, committed.evidence(endorsed=alone)).state) == ("endorsements")
    assert record.version == 1


def test_the_named_members_own_word_is_enough_where_no_majority_is_to_be_had(committed: Committed) -> None:
    record = committed.put(committed.person(), COMMITMENT)
    alone = committed.network.state(committed.values, endorsers=committed.network.peers[:1])

    def by(member: str) -> Checked:
        evidence = committed.evidence(endorsed=alone)
        return Checked(evidence, committed.network.trust, CHANNEL, of_member=member)

    assert by("MercyMSP").version(record.record_id, 1).endorsers == ("MercyMSP",)
    assert check_of(lambda: by("LakesideMSP").state) == "endorsements"
    # What its author did not sign it cannot vouch for either.
    forged = committed.put(committed.person(), FORGED, meant=COMMITMENT)
    alone = committed.network.state(committed.values, endorsers=committed.network.peers[:1])
    assert check_of(lambda: by("MercyMSP").version(forged.record_id, 1)) == "author"


def test_peers_of_organisations_that_only_bear_the_members_names_prove_nothing(
    committed: Committed,
) -> None:
    committed.put(committed.person(), COMMITMENT)
    assert check_of(lambda: Checked(committed.evidence(), Network().trust, CHANNEL).state) == "endorsements"


def test_another_chaincodes_state_is_not_the_channels(committed: Committed) -> None:
    committed.put(committed.person(), COMMITMENT)
    other = committed.network.state(committed.values, chaincode="other")
    assert check_of(lambda: given(committed, committed.evidence(endorsed=other)).state) == ("transaction")


def test_an_endorsed_batch_is_not_taken_for_state(committed: Committed) -> None:
    """It was endorsed before it was ordered: what it would have written may never have been."""
    committed.put(committed.person(), COMMITMENT)
    batch = committed.network.state(committed.values, function=b"process")
    assert check_of(lambda: given(committed, committed.evidence(endorsed=batch)).state) == ("transaction")


def test_a_value_exchanged_after_it_was_endorsed_is_refused(committed: Committed) -> None:
    record = committed.put(committed.person(), COMMITMENT)
    forged = committed.evidence().endorsed_state.replace(record.SerializeToString(), _other(record))
    assert check_of(lambda: given(committed, committed.evidence(endorsed=forged)).state) in (
        "endorsements",
        "state",
    )


def test_a_commitment_that_its_author_did_not_sign_is_refused(committed: Committed) -> None:
    record = committed.put(committed.person(), FORGED, meant=COMMITMENT)
    checked = Checked(committed.of([record]), committed.network.trust, CHANNEL)
    assert check_of(lambda: checked.version(record.record_id, 1)) == "author"


def test_a_version_without_its_authors_command_or_registration_is_refused(committed: Committed) -> None:
    record = committed.put(committed.person(), COMMITMENT)
    for field in ("commands", "registrations"):
        evidence = committed.of([record])
        evidence.ClearField(field)  # type: ignore[arg-type]
        assert check_of(lambda less=evidence: proven(committed, less, record.record_id)) == "author"


def test_an_author_whom_no_member_certified_is_refused(committed: Committed) -> None:
    stranger = Person(Network().mercy)
    committed.people.append(stranger)
    record = committed.put(stranger, COMMITMENT)
    assert check_of(lambda: proven(committed, committed.of([record]), record.record_id)) == "author"


def test_a_version_signed_for_another_beginning_of_the_channel_is_refused(committed: Committed) -> None:
    record = committed.put(committed.person(), COMMITMENT, channel=REUSED_NAME)
    assert check_of(lambda: proven(committed, committed.of([record]), record.record_id)) == "author"


def test_another_version_is_not_taken_for_the_one_asked_for(committed: Committed) -> None:
    record = committed.put(committed.person(), COMMITMENT)
    checked = Checked(committed.of([record]), committed.network.trust, CHANNEL)
    assert check_of(lambda: checked.version(record.record_id, 2)) == "state"


def test_a_device_writes_for_its_author_within_a_delegation(committed: Committed) -> None:
    author, device = committed.person(), committed.person("device")
    delegation = author.lets(device.address, "write")
    record = committed.put(author, COMMITMENT, device=device, delegation=delegation)
    found = proven(committed, committed.of([record]), record.record_id)
    assert (found.record.author, found.signed.signer) == (author.address, device.address)


def test_a_key_and_a_delegation_are_checked_once_and_a_forged_one_beside_them_still_is_refused(
    committed: Committed,
) -> None:
    author, device = committed.person(), committed.person("device")
    delegation = author.lets(device.address, "write")
    first = committed.put(author, COMMITMENT, device=device, delegation=delegation)
    people = People()
    Checked(committed.of([first]), committed.network.trust, CHANNEL, people).version(first.record_id, 1)
    assert len(people) == 3

    committed.people.clear()
    again = committed.put(author, COMMITMENT, device=device, delegation=delegation)
    checked = Checked(committed.of([again]), committed.network.trust, CHANNEL, people)
    assert checked.version(again.record_id, 1).record == again

    forged = pb.SignedDelegation(delegation=delegation.delegation, signature=b"forged")
    other = committed.put(author, COMMITMENT, device=device, delegation=forged)
    refused = Checked(committed.of([other]), committed.network.trust, CHANNEL, people)
    assert check_of(lambda: refused.version(other.record_id, 1)) == "author"


@pytest.mark.parametrize("wrong", ["to another device", "of another channel", "unsigned"])
def test_a_device_outside_its_delegation_writes_for_nobody(committed: Committed, wrong: str) -> None:
    author, device, other = committed.person(), committed.person("device"), committed.person("device")
    delegation = author.lets(
        other.address if wrong == "to another device" else device.address,
        "write",
        channel=REUSED_NAME if wrong == "of another channel" else CHANNEL,
    )
    if wrong == "unsigned":
        delegation.signature = device.lets(author.address, "write").signature
    record = committed.put(author, COMMITMENT, device=device, delegation=delegation)
    assert check_of(lambda: proven(committed, committed.of([record]), record.record_id)) == "author"


def test_a_command_is_proven_by_its_entry_and_its_signer(committed: Committed) -> None:
    signer = committed.person()
    signed = signer.signer.sign_command(command.make(pb.RevokeConsent(consent_id="x"), channel=CHANNEL))
    entry = committed.enter(signed)
    checked = Checked(committed.evidence(), committed.network.trust, CHANNEL)
    assert checked.command(entry.command_id).entry == entry
    assert checked.command(entry.command_id, signer.address).signed == signed
    assert check_of(lambda: checked.command(entry.command_id, "cb1somebodyelse")) == "verdict"


def test_an_entry_about_other_bytes_than_the_signers_is_refused(committed: Committed) -> None:
    signer = committed.person()
    first, second = (
        signer.signer.sign_command(
            command.make(pb.RevokeConsent(consent_id=name), channel=CHANNEL, command_id="the-same")
        )
        for name in ("first", "second")
    )
    committed.enter(first)
    committed.commands["the-same"] = second
    checked = Checked(committed.evidence(), committed.network.trust, CHANNEL)
    assert check_of(lambda: checked.command("the-same")) == "author"


def test_a_command_that_nobody_decided_is_proven_by_nothing(committed: Committed) -> None:
    signed = committed.person().signer.sign_command(command.make(pb.Access(), channel=CHANNEL))
    entry = committed.enter(signed)
    checked = Checked(committed.evidence(), committed.network.trust, CHANNEL)
    assert checked.command(entry.command_id).endorsers == ("LakesideMSP", "MercyMSP")
    assert check_of(lambda: checked.command(uuid7())) == "verdict"


def test_a_value_that_is_neither_a_version_nor_an_entry_is_none(committed: Committed) -> None:
    author = committed.person()
    record = committed.put(author, COMMITMENT)
    for key in committed.values:
        committed.values[key] = b"\xff"
    checked = Checked(committed.evidence(), committed.network.trust, CHANNEL)
    assert check_of(lambda: checked.version(record.record_id, 1)) == "state"
    assert check_of(lambda: checked.command(record.command_id, author.address)) == "state"


def given(committed: Committed, evidence: Evidence) -> Checked:
    return Checked(evidence, committed.network.trust, CHANNEL)


def proven(committed: Committed, evidence: Evidence, record_id: str):
    return Checked(evidence, committed.network.trust, CHANNEL).version(record_id, 1)


def _other(record: object) -> bytes:
    other = type(record)()  # type: ignore[call-arg]
    other.CopyFrom(record)
    other.content_commitment = FORGED
    return other.SerializeToString()
