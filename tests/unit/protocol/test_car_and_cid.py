"""CIDs and CARs are what IPFS takes them for; anything malformed is refused, never misread."""

from __future__ import annotations

import base64

import cbor2
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


def test_bytes_of_another_length_are_no_cid() -> None:
    for binary in (b"", cid.to_bytes(cid.raw(b"x"))[:-1], cid.to_bytes(cid.raw(b"x")) + b"x"):
        with pytest.raises(ValueError, match="36 bytes"):
            cid.from_bytes(binary)


@given(st.binary(min_size=36, max_size=36))
def test_the_text_of_a_cid_is_its_lower_case_base32(binary: bytes) -> None:
    assert cid.from_bytes(binary) == "b" + base64.b32encode(binary).decode().lower().rstrip("=")


@pytest.mark.parametrize("count", [0, 1, 23, 24, 255, 256, 1000])
def test_a_batch_root_is_the_canonical_list_of_its_links(count: int) -> None:
    names = binaries(count)
    root = cid.batch_root(names)
    assert root.block == cbor2.dumps([cbor2.CBORTag(42, b"\x00" + name) for name in names], canonical=True)
    assert cid.links(root.block) == names


def test_a_list_in_another_form_or_of_something_else_is_no_batch_root() -> None:
    names = binaries(30)
    block = cid.batch_root(names).block
    foreign = cid.batch_root([b"\x01\x70\x12\x20" + bytes(32)]).block
    for other in (b"", block[:-1], block + b"x", b"\x99\x00\x1e" + block[2:], block[1:], foreign):
        with pytest.raises(ValueError, match=r"CIDv1|list of links"):
            cid.links(other)


def test_a_car_gives_back_its_blocks() -> None:
    blocks = [named(data) for data in (b"a", b"b" * 1000)]
    root = cid.batch_root([name for name, _ in blocks])
    everything = [(root.cid, root.block), *blocks]
    assert car.read(car.write(root.cid, everything)) == ([root.cid], everything)


def test_a_car_begins_with_the_header_that_its_specification_wants() -> None:
    name, data = named(b"a")
    header = cbor2.dumps({"roots": [cbor2.CBORTag(42, b"\x00" + name)], "version": 1}, canonical=True)
    assert car.write(name, [(name, data)]) == bytes((len(header),)) + header + b"\x25" + name + data


def test_a_block_that_is_not_its_cids_is_found() -> None:
    name, _ = named(b"a")
    with pytest.raises(cid.HashMismatch):
        car.read(car.write(name, [(name, b"b")]))


def test_a_car_cut_short_is_refused_wherever_it_is_cut() -> None:
    name, data = named(b"content" * 10)
    packed = car.write(name, [(name, data)])
    whole = len(packed) - len(data) - 36 - 1
    for length in [*range(whole), *range(whole + 1, len(packed))]:
        with pytest.raises(car.BadCar):
            car.read(packed[:length])


@given(st.binary(max_size=300))
def test_bytes_that_are_no_car_are_refused(junk: bytes) -> None:
    with pytest.raises((car.BadCar, cid.HashMismatch)):
        car.read(junk)


def named(data: bytes) -> tuple[bytes, bytes]:
    return cid.binary(cid.RAW, data), data


def binaries(count: int) -> list[bytes]:
    return [cid.binary(cid.RAW, str(number).encode()) for number in range(count)]
