"""A receipt is believed only when its block, its members and its author hold."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from fabric_protos.common import common_pb2

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import Batch, BatchItem, BatchResult, GroupVerdict, Verdict
from cbmdhi.protocol import command, proof, signature
from cbmdhi.protocol.block import Header
from cbmdhi.protocol.consortium import Consortium, GatewayAddresses, Member, Orderer
from cbmdhi.protocol.ids import uuid7
from fabric_gateway.config import channel_config
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_blocks import Member as Identity
from tests.support.fakes.fabric_blocks import Network
from tests.support.fakes.own_peer import config_block

COMMAND_ID = uuid7()


@pytest.fixture
def network() -> Network:
    return Network()


def one_command() -> tuple[Batch, BatchResult]:
    signer = command.KeySigner(signature.new_private_key())
    body = pb.RevokeConsent(consent_id=uuid7(), patient=signer.address)
    signed = signer.sign_command(command.make(body, channel=CHANNEL, command_id=COMMAND_ID))
    batch = Batch(items=[BatchItem(group=pb.CommandGroup(commands=[signed]))])
    verdict = Verdict(command_id=COMMAND_ID, code=code_pb2.CODE_OK)
    return batch, BatchResult(groups=[GroupVerdict(verdicts=[verdict])])


def verify(network: Network, block: object, tx_id: str) -> proof.VerifiedTransaction:
    previous = network.previous.SerializeToString()
    return proof.verify_transaction(block.SerializeToString(), previous, tx_id, network.trust)  # type: ignore[attr-defined]


def refused_by(check: str, network: Network, block: object, tx_id: str) -> None:
    with pytest.raises(proof.ProofError) as caught:
        verify(network, block, tx_id)
    assert caught.value.check == check


def test_a_transaction_that_both_members_endorsed_is_believed(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    verified = verify(network, network.block(envelope), tx_id)
    assert verified.valid
    assert verified.endorsers == ("LakesideMSP", "MercyMSP")
    found = proof.find_verdict(verified, COMMAND_ID)
    assert found.verdict.code == code_pb2.CODE_OK
    assert (found.command, found.item, found.index) == (
        verified.batch.items[0].group.commands[0],
        verified.batch.items[0],
        0,
    )
    assert (verified.tx_id, verified.block_number, verified.creator_msp) == (tx_id, 7, "MercyMSP")
    assert abs(verified.timestamp_ms - time.time_ns() // 1_000_000) < 3_600_000


def test_a_transaction_that_the_peer_marked_invalid_is_not_called_valid(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    assert not verify(network, network.block(envelope, flag=11), tx_id).valid


def rubbish(tx_id: str) -> bytes:
    """An envelope that says whose it is, and holds nothing."""
    header = common_pb2.Header(channel_header=common_pb2.ChannelHeader(tx_id=tx_id).SerializeToString())
    payload = common_pb2.Payload(header=header, data=b"\xff").SerializeToString()
    return common_pb2.Envelope(payload=payload).SerializeToString()


def test_a_strangers_envelope_under_a_transactions_id_takes_no_proof_of_it(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    _, strangers = network.transaction(*one_command(), endorsers=[], under=tx_id)
    for before in (strangers, rubbish(tx_id), b"\xff"):
        verified = verify(network, network.block(before, envelope, flags=b"\x08\x00"), tx_id)
        assert verified.valid
        assert proof.find_verdict(verified, COMMAND_ID).verdict.code == code_pb2.CODE_OK


def test_an_id_under_which_nothing_is_valid_proves_nothing(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    _, strangers = network.transaction(*one_command(), endorsers=[], under=tx_id)
    assert not verify(network, network.block(envelope, strangers, flags=b"\x0b\x08"), tx_id).valid
    refused_by("transaction", network, network.block(strangers, envelope, flags=b"\x08\x0b"), tx_id)


def test_a_strangers_envelope_that_is_said_to_be_valid_is_refused(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    _, strangers = network.transaction(*one_command(), endorsers=[], under=tx_id)
    refused_by("transaction", network, network.block(strangers, envelope, flags=b"\x00\x0b"), tx_id)


def test_one_member_alone_proves_nothing(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command(), endorsers=network.peers[:1])
    refused_by("endorsements", network, network.block(envelope), tx_id)


def test_one_member_signing_twice_is_still_one_member(network: Network) -> None:
    twice = [network.peers[0], network.mercy.issue("peer")]
    tx_id, envelope = network.transaction(*one_command(), endorsers=twice)
    refused_by("endorsements", network, network.block(envelope), tx_id)


def test_an_endorsement_by_a_client_of_a_member_does_not_count(network: Network) -> None:
    not_peers = [network.peers[0], network.lakeside.issue("client")]
    tx_id, envelope = network.transaction(*one_command(), endorsers=not_peers)
    refused_by("endorsements", network, network.block(envelope), tx_id)


def test_an_endorser_of_an_organisation_that_only_bears_a_members_name_does_not_count(
    network: Network,
) -> None:
    stranger = Network()
    tx_id, envelope = network.transaction(*one_command(), endorsers=[network.peers[0], stranger.peers[1]])
    refused_by("endorsements", network, network.block(envelope), tx_id)


def test_a_block_that_follows_another_is_refused(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope)
    network.previous.data_hash = bytes(32)
    refused_by("hash-chain", network, block, tx_id)


def test_a_block_with_exchanged_content_is_refused(network: Network) -> None:
    block = network.block(network.transaction(*one_command())[1])
    tx_id, envelope = network.transaction(*one_command())
    block.data.data[0] = envelope
    refused_by("data-hash", network, block, tx_id)


def test_a_block_that_no_orderer_of_the_consortium_signed_is_refused(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    refused_by("orderer", network, network.block(envelope, orderer=network.peers[0]), tx_id)


def test_another_chaincodes_answer_is_refused(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command(), chaincode="other")
    refused_by("transaction", network, network.block(envelope), tx_id)


def test_a_transaction_that_is_not_in_the_block_is_refused(network: Network) -> None:
    _, envelope = network.transaction(*one_command())
    refused_by("transaction", network, network.block(envelope), "ab" * 32)


def test_a_command_that_was_not_decided_there_has_no_verdict(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    verified = verify(network, network.block(envelope), tx_id)
    with pytest.raises(proof.ProofError) as caught:
        proof.find_verdict(verified, uuid7())
    assert caught.value.check == "verdict"


def test_the_same_command_id_of_another_signer_is_not_taken_for_it(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    verified = verify(network, network.block(envelope), tx_id)
    with pytest.raises(proof.ProofError):
        proof.find_verdict(verified, COMMAND_ID, "cb1somebodyelse")


def test_bytes_that_are_no_block_are_refused_in_a_sentence(network: Network) -> None:
    with pytest.raises(proof.ProofError):
        proof.verify_transaction(b"\xff\xff", b"", "x", network.trust)


@pytest.mark.parametrize(("signing", "stands"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_block_of_a_bft_channel_needs_a_quorum_of_its_consenters(
    network: Network, signing: int, stands: bool
) -> None:
    """One orderer's signature sufficed: with four, one of them may lie."""
    consenters = {number: network.ordering.issue("orderer") for number in range(1, 5)}
    trust = bft_trust(network, consenters)
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope)
    sign_as_consenters(block, dict(list(consenters.items())[:signing]))
    if stands:
        assert proof.verify_transaction(block.SerializeToString(), None, tx_id, trust).valid
        return
    with pytest.raises(proof.ProofError) as caught:
        proof.verify_transaction(block.SerializeToString(), None, tx_id, trust)
    assert caught.value.check == "orderer"


def test_one_consenter_that_signs_often_and_orderers_that_are_none_make_no_quorum(network: Network) -> None:
    consenters = {number: network.ordering.issue("orderer") for number in range(1, 5)}
    trust = bft_trust(network, consenters)
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope)
    others = {number: network.ordering.issue("orderer") for number in range(2, 5)}
    sign_as_consenters(block, {1: consenters[1], **others})
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[0])
    metadata.signatures.extend([metadata.signatures[0]] * 3)
    block.metadata.metadata[0] = metadata.SerializeToString()
    with pytest.raises(proof.ProofError) as caught:
        proof.verify_transaction(block.SerializeToString(), None, tx_id, trust)
    assert caught.value.check == "orderer"


def bft_trust(network: Network, consenters: dict[int, Identity]) -> proof.Trust:
    found = channel_config(config_block(network, consenters))
    return proof.Trust(
        "cbmdhi",
        "cbmdhi",
        dict(found.members),
        dict(found.orderers),
        consenters=found.consenters,
        orderer_quorum=found.quorum,
    )


def sign_as_consenters(block: common_pb2.Block, consenters: dict[int, Identity]) -> None:
    metadata = common_pb2.Metadata(value=b"last-config")
    header = Header.parse(block.header.SerializeToString()).encoded
    for number, member in consenters.items():
        named = common_pb2.IdentifierHeader(identifier=number, nonce=b"n" * 24).SerializeToString()
        signed = member.sign(metadata.value + named + header)
        metadata.signatures.add(identifier_header=named, signature=signed)
    block.metadata.metadata[0] = metadata.SerializeToString()


def test_who_counts_is_read_from_the_channels_configuration(network: Network) -> None:
    raft = channel_config(config_block(network))
    assert dict(raft.members) == network.trust.member_roots
    assert dict(raft.orderers) == network.trust.orderer_roots
    assert (raft.quorum, dict(raft.consenters)) == (1, {})
    for count, quorum in ((1, 1), (4, 3), (7, 5), (10, 7)):
        consenters = {number: network.ordering.issue("orderer") for number in range(count)}
        assert channel_config(config_block(network, consenters)).quorum == quorum


LONG_AGO = datetime.now(UTC) - timedelta(days=400)


class Bytes(bytes):
    """Something that is no message, in the place of one."""

    def SerializeToString(self) -> bytes:
        return bytes(self)


def test_a_block_is_followed_by_the_one_that_names_it(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope)
    own = Header.parse(block.header.SerializeToString())

    def check(number: int, previous_hash: bytes) -> None:
        following = common_pb2.BlockHeader(number=number, previous_hash=previous_hash).SerializeToString()
        proof.verify_transaction(block.SerializeToString(), None, tx_id, network.trust, following)

    check(8, own.hash)
    for number, previous_hash in ((8, bytes(32)), (7, own.hash), (6, own.hash), (9, own.hash)):
        with pytest.raises(proof.ProofError) as caught:
            check(number, previous_hash)
        assert caught.value.check == "hash-chain"


def test_headers_that_are_none_link_nothing(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope).SerializeToString()
    for previous, following in ((b"\xff", b""), (None, b"\xff")):
        with pytest.raises(proof.ProofError) as caught:
            proof.verify_transaction(block, previous, tx_id, network.trust, following)
        assert caught.value.check == "hash-chain"
        assert str(caught.value).startswith("hash-chain: ")


@pytest.mark.parametrize(("number", "stands"), [(0, True), (1, False)])
def test_the_first_block_alone_follows_none(network: Network, number: int, stands: bool) -> None:
    consenters = {1: network.ordering.issue("orderer")}
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope)
    block.header.number = number
    sign_as_consenters(block, consenters)
    another = common_pb2.BlockHeader(number=0, data_hash=bytes(32)).SerializeToString()

    def check() -> None:
        proof.verify_transaction(block.SerializeToString(), another, tx_id, bft_trust(network, consenters))

    if stands:
        check()
        return
    with pytest.raises(proof.ProofError) as caught:
        check()
    assert caught.value.check == "hash-chain"


def test_what_is_no_batch_or_no_answer_to_it_is_refused(network: Network) -> None:
    batch, result = one_command()
    for asked, answered in (
        (Bytes(b"\xff"), result),
        (batch, Bytes(b"\xff")),
        (batch, BatchResult()),
        (Batch(), result),
    ):
        tx_id, envelope = network.transaction(asked, answered)  # type: ignore[arg-type]
        refused_by("transaction", network, network.block(envelope), tx_id)


def test_what_is_no_block_is_refused_for_its_form(network: Network) -> None:
    with pytest.raises(proof.ProofError) as caught:
        proof.verify_transaction(b"\xff\xff", None, "x", network.trust)
    assert caught.value.check == "transaction"


def test_a_block_without_signatures_that_can_be_read_has_no_orderer(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope)
    block.metadata.metadata[0] = b"\xff"
    refused_by("orderer", network, block, tx_id)
    block.metadata.metadata[0] = b""
    refused_by("orderer", network, block, tx_id)


def test_an_orderer_is_one_by_its_certificate_and_at_the_time_of_the_transaction(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    for nobody in (network.ordering.issue("client"), network.ordering.issue("orderer", LONG_AGO)):
        refused_by("orderer", network, network.block(envelope, orderer=nobody), tx_id)


def test_an_orderer_of_elsewhere_who_signs_first_hides_none_of_the_consortiums(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    block = network.block(envelope)
    ours = common_pb2.Metadata.FromString(block.metadata.metadata[0])
    strangers = network.block(envelope, orderer=network.mercy.issue("orderer"))
    both = common_pb2.Metadata.FromString(strangers.metadata.metadata[0])
    both.signatures.append(ours.signatures[0])
    block.metadata.metadata[0] = both.SerializeToString()
    assert verify(network, block, tx_id).valid


def test_who_sent_a_transaction_is_a_members_and_was_it_at_that_time(network: Network) -> None:
    for nobody in (network.ordering.issue("client"), network.mercy.issue("client", LONG_AGO)):
        network.client = nobody
        tx_id, envelope = network.transaction(*one_command())
        refused_by("creator", network, network.block(envelope), tx_id)


def test_what_peers_endorsed_of_the_state_is_a_majoritys_unless_one_member_is_named(network: Network) -> None:
    found = proof.verify_state(network.state({"key": b"value", "none": b""}), network.trust)
    assert (found.values, found.endorsers) == (
        {"key": b"value", "none": b""},
        ("LakesideMSP", "MercyMSP"),
    )
    alone = network.state({"key": b"value"}, endorsers=network.peers[:1])
    with pytest.raises(proof.ProofError) as caught:
        proof.verify_state(alone, network.trust)
    assert caught.value.check == "endorsements"
    assert proof.verify_state(alone, network.trust, of_member="MercyMSP").endorsers == ("MercyMSP",)


@pytest.mark.parametrize(("question", "answer"), [(b"\xff", b""), (b"", b"\xff")])
def test_a_question_or_answer_that_is_none_shows_no_state(
    network: Network, question: bytes, answer: bytes
) -> None:
    with pytest.raises(proof.ProofError) as caught:
        proof.verify_state(network.asked([b"query", question], answer), network.trust)
    assert caught.value.check == "state"


def test_of_two_commands_with_one_id_each_signer_finds_its_own(network: Network) -> None:
    (one, answered), (other, _) = one_command(), one_command()
    both = Batch(items=[*one.items, *other.items])
    tx_id, envelope = network.transaction(both, BatchResult(groups=[*answered.groups] * 2))
    verified = verify(network, network.block(envelope), tx_id)
    for item in both.items:
        signed = item.group.commands[0]
        assert proof.find_verdict(verified, COMMAND_ID, signed.signer).command == signed


def test_a_verdict_of_a_group_is_that_of_its_command(network: Network) -> None:
    batch, answered = one_command()
    first = pb.SignedCommand(command=command.make(pb.Access(), channel=CHANNEL, command_id="first"))
    batch.items[0].group.commands.insert(0, first)
    answered.groups[0].verdicts.insert(0, Verdict(command_id="first"))
    tx_id, envelope = network.transaction(batch, answered)
    found = proof.find_verdict(verify(network, network.block(envelope), tx_id), COMMAND_ID)
    assert (found.index, found.command) == (1, batch.items[0].group.commands[1])


@pytest.mark.parametrize("raw", [b"\xff", b""])
def test_a_verdict_about_what_is_no_such_command_is_none(network: Network, raw: bytes) -> None:
    batch, answered = one_command()
    batch.items[0].group.commands[0].command = raw
    tx_id, envelope = network.transaction(batch, answered)
    verified = verify(network, network.block(envelope), tx_id)
    with pytest.raises(proof.ProofError) as caught:
        proof.find_verdict(verified, COMMAND_ID)
    assert caught.value.check == "verdict"


def test_a_consortium_file_says_whom_to_trust(network: Network) -> None:
    gateway = GatewayAddresses("grpc", "first-contact", "rest")
    members = {
        one.msp_id: Member(one.msp_id, "name", one.pem, "tls", b"vault", gateway)
        for one in (network.mercy, network.lakeside)
    }
    orderers = (Orderer(network.ordering.msp_id, network.ordering.pem, "tls"),)
    consortium = Consortium("cbmdhi", bytes(32), "cbmdhi", members, orderers)
    assert proof.Trust.of(consortium) == network.trust


def test_on_a_bft_channel_an_orderer_that_is_no_consenter_counts_for_nothing(network: Network) -> None:
    tx_id, envelope = network.transaction(*one_command())
    trust = bft_trust(network, {1: network.ordering.issue("orderer")})
    with pytest.raises(proof.ProofError) as caught:
        proof.verify_transaction(network.block(envelope).SerializeToString(), None, tx_id, trust)
    assert caught.value.check == "orderer"
