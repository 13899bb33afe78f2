"""What lies in IPFS opens as what was sealed, for that record alone, or not at all."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmdhi.protocol import cid, envelope
from cbmdhi.protocol.envelope import CHUNK_BYTES, Binding, CannotOpen

HERE = Binding("cb1patient", "record", 1)
KEY = bytes(range(32))
EARLIEST = bytes.fromhex(
    "0a54080112056b65792d311a3cfd3003b655e59dc89756b2cdd0f403006434e2df387fc6a56be8fd3b56b1850ff41d48"
    "ab42683bde4e88df5f49272bcdaba72d6646de7d8d7d183e832207b11361296175ab28808040123a4bd6a4fc700a9ae9"
    "705e5b634545141e133c4b7a04a779a151f022660f21e5928e4ab4b18b9a6a4f97a2d33ce083cc1766029c30e9e627a3"
    "2135"
)


def sealed(content: bytes, binding: Binding = HERE) -> tuple[list[bytes], bytes]:
    record = envelope.seal(content, envelope.new_salt(), binding, "key-1", KEY)
    blocks = [data for _, data in record.blocks]
    header, _ = envelope.header(blocks[0])
    return blocks, envelope.unwrap_data_key(header, KEY, binding)


@settings(max_examples=50)
@given(st.binary(max_size=5000))
def test_what_was_sealed_comes_back(content: bytes) -> None:
    blocks, data_key = sealed(content)
    assert envelope.open(blocks, data_key, HERE).content == content


@pytest.mark.parametrize("size", [CHUNK_BYTES - 33, CHUNK_BYTES - 32, CHUNK_BYTES - 31, 3 * CHUNK_BYTES + 5])
def test_a_large_content_is_cut_into_chunks_and_comes_back(size: int) -> None:
    content = secrets.token_bytes(size)
    blocks, data_key = sealed(content)
    assert (len(blocks) == 1) == (size + 32 <= CHUNK_BYTES)
    assert envelope.open(blocks, data_key, HERE).content == content


def test_no_block_is_larger_than_bitswap_takes() -> None:
    blocks, _ = sealed(secrets.token_bytes(3 * CHUNK_BYTES))
    assert max(map(len, blocks)) < 2 * 1024 * 1024


def test_the_content_is_not_in_the_blocks_in_clear() -> None:
    blocks, _ = sealed(b"diagnosis: hypertension")
    assert b"hypertension" not in b"".join(blocks)


@pytest.mark.parametrize(
    "elsewhere",
    [Binding("cb1other", "record", 1), Binding("cb1patient", "other", 1), Binding("cb1patient", "record", 2)],
)
def test_a_swapped_envelope_does_not_open(elsewhere: Binding) -> None:
    blocks, data_key = sealed(b"content")
    with pytest.raises(CannotOpen):
        envelope.open(blocks, data_key, elsewhere)
    with pytest.raises(CannotOpen):
        envelope.unwrap_data_key(envelope.header(blocks[0])[0], KEY, elsewhere)


def test_chunks_in_another_order_do_not_open() -> None:
    blocks, data_key = sealed(secrets.token_bytes(2 * CHUNK_BYTES + 100))
    with pytest.raises(CannotOpen):
        envelope.open([blocks[0], blocks[2], blocks[1], *blocks[3:]], data_key, HERE)


def test_a_content_cut_short_does_not_open_even_when_the_root_is_rewritten() -> None:
    from cbmdhi.storage.v1.envelope_pb2 import Envelope

    blocks, data_key = sealed(secrets.token_bytes(2 * CHUNK_BYTES + 100))
    root = Envelope.FromString(blocks[0])
    del root.chunk_cids[-1]
    with pytest.raises(CannotOpen):
        envelope.open([root.SerializeToString(), *blocks[1:-1]], data_key, HERE)


@settings(max_examples=100)
@given(st.data())
def test_a_changed_bit_anywhere_never_opens_as_something_else(data: st.DataObject) -> None:
    content = b'{"resourceType":"Observation"}'
    blocks, data_key = sealed(content)
    changed = bytearray(blocks[0])
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        opened = envelope.open([bytes(changed)], data_key, HERE)
    except CannotOpen:
        return
    assert opened.content == content


def test_another_writer_key_unwraps_nothing() -> None:
    blocks, _ = sealed(b"content")
    with pytest.raises(CannotOpen):
        envelope.unwrap_data_key(envelope.header(blocks[0])[0], bytes(32), HERE)


def test_an_envelope_that_lies_in_ipfs_since_the_first_version_opens() -> None:
    place = Binding("cb1patient", "rec", 3)
    cid.check("bafkreigheu5su4ytrmc5khulg5boknklz7dvuahdw55euxuggy76ulee2a", EARLIEST)
    data_key = envelope.unwrap_data_key(envelope.header(EARLIEST)[0], KEY, place)
    opened = envelope.open([EARLIEST], data_key, place)
    assert opened == envelope.Opened(bytes.fromhex("d3704792b17e5708cb6d"), bytes(32))


@pytest.mark.parametrize("name", [b"", bytes(35), bytes(37)])
def test_an_envelope_that_names_its_chunks_by_something_else_does_not_open(name: bytes) -> None:
    from cbmdhi.storage.v1.envelope_pb2 import Envelope

    root = Envelope(header=Envelope.FromString(EARLIEST).header, chunk_cids=[name]).SerializeToString()
    with pytest.raises(CannotOpen):
        envelope.chunk_cids(root)
    with pytest.raises(CannotOpen):
        envelope.open([root, b"chunk"], bytes(32), HERE)


def test_the_cid_is_the_hash_of_the_first_block() -> None:
    record = envelope.seal(b"content", envelope.new_salt(), HERE, "key-1", KEY)
    cid.check(record.cid, record.blocks[0][1])
    with pytest.raises(cid.HashMismatch):
        cid.check(record.cid, record.blocks[0][1] + b"x")


def test_the_root_of_an_envelope_is_known_for_one() -> None:
    for size in (0, CHUNK_BYTES):
        blocks, _ = sealed(bytes(size))
        envelope.check_root(blocks[0])
        for chunk in blocks[1:]:
            with pytest.raises(CannotOpen):
                envelope.check_root(chunk)
    with pytest.raises(CannotOpen):
        envelope.check_root(b"")


UNKNOWN = b"\x7a\x05Erika"
"""Field 15, of which no version has heard."""


def test_what_rides_along_in_an_envelope_makes_it_none() -> None:
    from cbmdhi.storage.v1.envelope_pb2 import Envelope

    header = Envelope.FromString(EARLIEST).header
    twice = EARLIEST + Envelope(header=header).SerializeToString()
    in_header = Envelope(header=header + UNKNOWN, chunk=bytes(32)).SerializeToString()
    for block in (EARLIEST + UNKNOWN, twice, in_header):
        with pytest.raises(CannotOpen):
            envelope.check_root(block)


def test_an_envelope_of_another_suite_or_with_another_nonce_is_not_guessed_at() -> None:
    from cbmdhi.storage.v1.envelope_pb2 import Envelope, EnvelopeHeader

    root = Envelope.FromString(EARLIEST)
    for suite, prefix in ((2, bytes(7)), (1, bytes(6)), (1, bytes(8))):
        header = EnvelopeHeader.FromString(root.header)
        header.suite, header.nonce_prefix = suite, prefix
        changed = Envelope(header=header.SerializeToString(), chunk=root.chunk).SerializeToString()
        with pytest.raises(CannotOpen):
            envelope.header(changed)


def test_what_is_stored_is_as_large_as_its_blocks() -> None:
    record = envelope.seal(bytes(2 * CHUNK_BYTES), envelope.new_salt(), HERE, "key-1", KEY)
    assert record.stored_bytes == sum(len(data) for _, data in record.blocks) > 2 * CHUNK_BYTES
