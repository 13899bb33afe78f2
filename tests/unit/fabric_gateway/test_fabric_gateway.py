"""The parts of the Fabric client that need no network."""

import grpc
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

import fabric_gateway as fabric
from fabric_gateway import _protos as protos
from fabric_gateway.blocks import decode_block
from fabric_gateway.identity import sha256
from tests.support.pki import Consortium

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_every_signature_verifies_and_has_a_low_s() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sign = fabric.private_key_signer(key)

    for number in range(64):
        digest = sha256(b"%d" % number)
        signature = sign(digest)
        key.public_key().verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        assert decode_dss_signature(signature)[1] <= P256_ORDER // 2
        with pytest.raises(InvalidSignature):
            key.public_key().verify(signature, sha256(digest), ec.ECDSA(Prehashed(hashes.SHA256())))


def test_a_key_of_another_curve_or_of_another_certificate_is_refused(tmp_path) -> None:
    issued = Consortium(tmp_path).members["mercy"].issue("ledger")
    certificate, key = issued.certificate_file.read_bytes(), issued.key_file.read_bytes()
    other = _pem(ec.generate_private_key(ec.SECP256R1()))

    identity, _ = fabric.load("MercyMSP", certificate, key)

    assert x509.load_pem_x509_certificate(identity.certificate)
    with pytest.raises(ValueError, match="not the certificate's"):
        fabric.load("MercyMSP", certificate, other)
    with pytest.raises(ValueError, match="P-256"):
        fabric.private_key_signer(ec.generate_private_key(ec.SECP384R1()))


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("chaincode response 500, CODE_INVALID: batch: bad, really", "CODE_INVALID: batch: bad, really"),
        ("CODE_INVALID: batch: bad, really", "CODE_INVALID: batch: bad, really"),
        ("ProposalResponsePayloads do not match", "ProposalResponsePayloads do not match"),
        ("one, two", "one, two"),
    ],
)
def test_what_a_chaincode_said_is_told_apart_from_the_gateways_words(said: str, heard: str) -> None:
    failure = fabric.PeerFailure("peer:7051", "MercyMSP", said)
    error = fabric.EndorseError(grpc.StatusCode.ABORTED, "see details", (failure,))

    assert error.chaincode_messages == (heard,)
    assert said not in str(error)


@pytest.mark.parametrize(
    ("status", "may_have_happened"),
    [
        (grpc.StatusCode.UNAVAILABLE, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, True),
        (grpc.StatusCode.CANCELLED, True),
        (grpc.StatusCode.UNKNOWN, True),
        (grpc.StatusCode.ABORTED, True),
        (grpc.StatusCode.INVALID_ARGUMENT, False),
        (grpc.StatusCode.FAILED_PRECONDITION, False),
    ],
)
def test_only_a_certain_refusal_of_a_submission_is_taken_for_one(
    status: grpc.StatusCode, may_have_happened: bool
) -> None:
    assert fabric.SubmitError(status, "").may_have_happened is may_have_happened


def block_of(*envelopes: bytes, flags: bytes) -> bytes:
    block = protos.common.Block()
    block.header.number = 7
    block.data.data.extend(envelopes)
    block.metadata.metadata.extend([b"", b"", flags])
    return block.SerializeToString()


def envelope(kind: int, tx_id: str = "tx") -> bytes:
    payload = protos.common.Payload()
    payload.header.channel_header = protos.common.ChannelHeader(type=kind, tx_id=tx_id).SerializeToString()
    payload.header.signature_header = protos.common.SignatureHeader().SerializeToString()
    return protos.common.Envelope(payload=payload.SerializeToString()).SerializeToString()


def test_rubbish_that_peers_found_invalid_does_not_stop_a_reader() -> None:
    rubbish, conflicted = b"\xff\xff", envelope(protos.common.ENDORSER_TRANSACTION, "conflicted")
    block = decode_block(block_of(rubbish, conflicted, flags=bytes([2, fabric.MVCC_READ_CONFLICT])))

    assert [(one.transaction_id, one.valid) for one in block.transactions] == [("conflicted", False)]
    assert block.transactions[0].action is None


def test_rubbish_that_is_called_valid_is_an_error_and_not_skipped() -> None:
    with pytest.raises(fabric.MalformedMessage):
        decode_block(block_of(b"\xff\xff", flags=bytes([fabric.VALID])))


def test_a_transaction_without_a_verdict_of_the_peer_is_not_valid() -> None:
    block = decode_block(block_of(envelope(protos.common.ENDORSER_TRANSACTION), flags=b""))

    assert not block.transactions[0].valid


def test_configuration_is_no_transaction() -> None:
    assert decode_block(block_of(envelope(protos.common.CONFIG), flags=b"\0")).transactions == ()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_block_are_malformed_and_nothing_else(raw: bytes) -> None:
    try:
        decode_block(raw)
    except fabric.MalformedMessage:
        return


def test_the_hash_of_a_header_is_that_of_its_asn_1() -> None:
    # openssl asn1parse would read: SEQUENCE { INTEGER 300, OCTET STRING 01, OCTET STRING 0203 }
    header = protos.common.BlockHeader(number=300, previous_hash=b"\x01", data_hash=b"\x02\x03")
    encoded = bytes.fromhex("300b 0202012c 040101 04020203".replace(" ", ""))

    assert fabric.blocks.hash_of_header(header) == sha256(encoded)
    high = protos.common.BlockHeader(number=128, previous_hash=b"", data_hash=b"")
    assert fabric.blocks.hash_of_header(high) == sha256(bytes.fromhex("3008020200800400" + "0400"))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
