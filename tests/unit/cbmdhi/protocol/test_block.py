"""A block is read as Fabric wrote it: what is hashed and signed, who, when, and what of it is valid."""

from __future__ import annotations

import datetime

import pytest

from cbmdhi.command.v1.state_pb2 import Batch, BatchResult
from cbmdhi.protocol import block
from cbmdhi.protocol.block import Block, Header, MalformedBlock
from tests.support.fakes.fabric_blocks import Chance, Network


class AtNoon(Chance):
    """A network on which it is always five milliseconds past noon."""

    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 5, 4, 12, microsecond=5_000, tzinfo=datetime.UTC)


NETWORK = Network(AtNoon())
NOON_MS = 1_777_896_000_000


def made(*envelopes: bytes, flags: bytes = b"") -> Block:
    return Block.parse(NETWORK.block(*envelopes, flags=flags).SerializeToString())


@pytest.mark.parametrize(
    ("count", "length"),
    [
        (127, "7f"),
        (128, "8180"),
        (129, "8181"),
        (255, "81ff"),
        (256, "820100"),
        (65_535, "82ffff"),
        (65_536, "83010000"),
    ],
)
def test_a_header_is_hashed_in_der_whatever_its_lengths(count: int, length: str) -> None:
    encoded = Header(number=1, previous_hash=b"h" * count, data_hash=b"").encoded
    assert encoded.endswith(bytes.fromhex(f"020101 04{length}") + b"h" * count + b"\x04\x00")


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "020100"), (127, "02017f"), (128, "02020080"), (255, "020200ff"), (256, "02020100")],
)
def test_a_number_in_a_header_is_never_negative(number: int, encoded: str) -> None:
    assert Header(number, b"", b"").encoded.hex() == f"30{len(encoded) // 2 + 4:02x}{encoded}04000400"


def test_a_transaction_says_when_it_was_proposed_to_the_millisecond() -> None:
    tx_id, envelope = NETWORK.transaction(Batch(), BatchResult())
    found = block.find_transaction(made(envelope), tx_id)

    assert found.timestamp_ms == NOON_MS + 5
    assert isinstance(found.timestamp_ms, int)


def test_what_peers_endorsed_and_nobody_ordered_is_read_too_and_called_neither_valid_nor_invalid() -> None:
    found = block.endorsed(NETWORK.state({"key": b"value"}))

    assert found.arguments[0] == b"query"
    assert {signed.msp_id for signed in found.endorsements} == {"MercyMSP", "LakesideMSP"}
    assert found.validation_code == 254  # Fabric's NOT_VALIDATED
    for raw in (b"\xff", b""):
        with pytest.raises(MalformedBlock):
            block.endorsed(raw)


def test_everything_under_an_id_is_told_with_what_the_peer_found_of_it() -> None:
    tx_id, envelope = NETWORK.transaction(Batch(), BatchResult())
    _, other = NETWORK.transaction(Batch(), BatchResult())
    _, strangers = NETWORK.transaction(Batch(), BatchResult(), under=tx_id)

    assert block.codes_of(made(other, strangers, b"\xff", envelope, flags=b"\x00\x08\x02\x0b"), tx_id) == [
        8,
        11,
    ]
    assert block.codes_of(made(other), tx_id) == []


def test_a_block_that_does_not_say_what_is_valid_is_none() -> None:
    tx_id, envelope = NETWORK.transaction(Batch(), BatchResult())
    silent = NETWORK.block(envelope)
    silent.metadata.metadata[2] = b""
    without = NETWORK.block(envelope)
    del without.metadata.metadata[2]
    for one in (silent, without):
        parsed = Block.parse(one.SerializeToString())
        with pytest.raises(MalformedBlock):
            block.codes_of(parsed, tx_id)
        with pytest.raises(MalformedBlock):
            block.find_transaction(parsed, tx_id)
