"""CIDs and CARs are what IPFS takes them for; anything malformed is refused, never misread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbmdhi.protocol import car, cid


def test_a_cid_is_the_one_that_ipfs_gives() -> None:
    # `printf hello | ipfs block put --cid-codec raw` and its well-known value.
    assert cid.raw(b"hello") == "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"


def test_a_cid_survives_its_binary_form() -> None:
    assert cid.from_bytes(cid.to_bytes(cid.raw(b"x"))) == cid.raw(b"x")


@given(st.text(max_size=80))
def test_text_that_is_no_cid_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="CIDv1"):
        cid.to_bytes(text)


def test_a_batch_root_links_to_its_records() -> None:
    names = [cid.raw(bytes([number])) for number in range(50)]
    root = cid.batch_root(names)
    assert cid.links(root.block) == names


def test_a_car_gives_back_its_blocks() -> None:
    blocks = [(cid.raw(data), data) for data in (b"a", b"b" * 1000)]
    root = cid.batch_root([name for name, _ in blocks])
    everything = [(root.cid, root.block), *blocks]
    assert car.read(car.write(root.cid, everything)) == ([root.cid], everything)


def test_a_block_that_is_not_its_cids_is_found() -> None:
    packed = car.write(cid.raw(b"a"), [(cid.raw(b"a"), b"b")])
    with pytest.raises(cid.HashMismatch):
        car.read(packed)


def test_a_car_cut_short_is_refused_wherever_it_is_cut() -> None:
    data = b"content" * 10
    packed = car.write(cid.raw(data), [(cid.raw(data), data)])
    whole = len(packed) - len(data) - 36 - 1
    for length in [*range(whole), *range(whole + 1, len(packed))]:
        with pytest.raises(car.BadCar):
            car.read(packed[:length])


@given(st.binary(max_size=300))
def test_bytes_that_are_no_car_are_refused(junk: bytes) -> None:
    with pytest.raises((car.BadCar, cid.HashMismatch)):
        car.read(junk)
