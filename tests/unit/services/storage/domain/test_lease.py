"""A batch stays while anybody can still name it, and afterwards what somebody named."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from cbmdhi.protocol import replica
from services.storage.domain.lease import LEASE_MS, Content, Lease, settle

HELD_MS = 1_800_000_000_000
ONE, TWO = Content("one", "command-1", "cb1a", b"s" * 32), Content("two", "command-2", "cb1b")
LEASE = Lease("root", "MercyMSP", (ONE, TWO), {"two": ("chunk-1", "chunk-2")}, HELD_MS)


def test_receipts_sign_each_content_with_its_command_signer_and_what_is_stated_of_it() -> None:
    contents = replica.contents([("one", "command-1", "cb1a", b"s" * 32), ("two", "command-2", "cb1b", b"")])
    assert LEASE.sealed == contents
    assert LEASE.sealed_sha256 == hashlib.sha256(contents).digest()


def test_its_blocks_are_its_records_with_their_chunks() -> None:
    assert LEASE.blocks == ["one", "two", "chunk-1", "chunk-2"]
    assert LEASE.with_chunks(["one"]) == ["one"]


def test_one_batch_of_one_member_is_one_lease() -> None:
    assert hash(LEASE) == hash(replace(LEASE, held_at_ms=0))
    others = {hash(replace(LEASE, msp="LakesideMSP")), hash(replace(LEASE, root_cid="another"))}
    assert len({hash(LEASE), *others}) == 3


@pytest.mark.parametrize(
    ("channel_ms", "own_ms", "ended"),
    [
        (LEASE_MS + 1, LEASE_MS + 1, True),
        (LEASE_MS, LEASE_MS + 1, False),
        (LEASE_MS + 1, LEASE_MS, False),
        (0, 10 * LEASE_MS, False),
        (10 * LEASE_MS, 0, False),
    ],
)
def test_it_ends_when_both_clocks_say_so(channel_ms: int, own_ms: int, ended: bool) -> None:
    assert LEASE.has_ended(HELD_MS + channel_ms, HELD_MS + own_ms) == ended


def test_what_nobody_got_a_receipt_for_has_ended_from_the_start() -> None:
    assert replace(LEASE, held_at_ms=0).has_ended(0, 0)


def test_a_lease_is_longer_than_a_receipt_is_taken() -> None:
    assert LEASE_MS == replica.RECEIPT_LIFETIME_MS + 180_000


def test_what_is_named_stays_once_the_outcome_of_each_is_known() -> None:
    assert settle(LEASE, {"one"}, set(), ended=False) is None
    assert settle(LEASE, {"one"}, {TWO}, ended=False) == {"one"}
    assert settle(LEASE, {"one", "two", "of another"}, set(), ended=False) == {"one", "two"}
    assert settle(LEASE, set(), {ONE, TWO}, ended=False) == frozenset()
    assert settle(LEASE, {"two"}, set(), ended=True) == {"two"}
    # Somebody else's command for the same content decides nothing.
    assert settle(LEASE, {"one"}, {replace(TWO, signer="cb1c")}, ended=False) is None
