"""CIDs and CARs are what IPFS takes them for; anything malformed is refused, never misread."""

from __future__ import annotations

import base64

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
    # A list (major type 4) of tag 42 (0xd82a) around byte strings of 37 (0x5825): RFC 8949, by hand.
    assert root.block == cbor_head(4, count) + b"".join(b"\xd8\x2a\x58\x25\x00" + name for name in names)
    assert cid.links(root.block) == names


def test_a_list_in_another_form_or_of_something_else_is_no_batch_root() -> None:
    names = binaries(30)
    block = cid.batch_root(names).block
    foreign = cid.batch_root([b"\x01\x70\x12\x20" + bytes(32)]).block
    for other in (b"", block[:-1], block + b"x", b"\x99\x00\x1e" + block[2:], block[1:], foreign):
        with pytest.raises(ValueError, match=r"CIDv1|list of links"):
            cid.links(other)


def test_a_car_gives_back_its_blocks() -> None:
    root, everything = batch_of(b"a", b"b" * 1000)
    assert car.read(car.write(root, everything), 3) == (root, everything)


def test_a_car_begins_with_the_header_that_its_specification_wants() -> None:
    name, data = named(b"a")
    # {"roots": [42(h'00…')], "version": 1}: RFC 8949, by hand.
    header = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + name + b"\x67version\x01"
    assert car.write(name, [(name, data)]) == bytes((len(header),)) + header + b"\x25" + name + data


def test_a_block_that_is_not_its_cids_is_found() -> None:
    name, _ = named(b"a")
    with pytest.raises(cid.HashMismatch):
        car.read(car.write(name, [(name, b"b")]), 1)


def test_a_car_cut_short_is_refused_wherever_it_is_cut() -> None:
    name, data = named(b"content" * 10)
    packed = car.write(name, [(name, data)])
    whole = len(packed) - len(data) - 36 - 1
    for length in [*range(whole), *range(whole + 1, len(packed))]:
        with pytest.raises(car.BadCar):
            car.read(packed[:length], 1)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_car_are_refused(junk: bytes) -> None:
    with pytest.raises((car.BadCar, cid.HashMismatch)):
        car.read(junk, 100)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), st.data())
def test_a_car_has_one_form_and_any_other_byte_is_refused(contents: list[bytes], data: st.DataObject) -> None:
    root, everything = batch_of(*contents)
    packed = car.write(root, everything)
    at = data.draw(st.integers(0, len(packed)))
    gone = data.draw(st.integers(0, 40))
    changed = packed[:at] + data.draw(st.binary(max_size=40)) + packed[at + gone :]
    try:
        found_root, blocks = car.read(changed, 10)
    except (car.BadCar, cid.HashMismatch):
        return
    assert car.write(found_root, blocks) == changed


@pytest.mark.parametrize(
    "header",
    [
        # Other encodings of the same header: another order, an open map, a longer count, a key more.
        b"\xa2\x67version\x01\x65roots\x81\xd8\x2a\x58\x25\x00CID",
        b"\xbf\x65roots\x81\xd8\x2a\x58\x25\x00CID\x67version\x01\xff",
        b"\xb8\x02\x65roots\x81\xd8\x2a\x58\x25\x00CID\x67version\x01",
        b"\xa3\x65roots\x81\xd8\x2a\x58\x25\x00CID\x61x\x80\x67version\x01",
        # What a decoder of any CBOR builds for minutes, or by the gigabyte: tags, and lists within lists.
        b"\xa3\x65roots\x81\xd8\x2a\x58\x25\x00CID\x61x" + b"\x81" * 500 + b"\x80\x67version\x01",
        b"\xa3\x65roots\x81\xd8\x2a\x58\x25\x00CID\x61x\xc2\x5a\x00\x10\x00\x00"
        + bytes(1 << 20)
        + b"\x67version\x01",
    ],
)
def test_a_header_in_another_form_is_refused_unread(header: bytes) -> None:
    name, data = named(b"a")
    header = header.replace(b"CID", name)
    with pytest.raises(car.BadCar):
        car.read(varint(len(header)) + header + b"\x25" + name + data, 1)


def test_more_blocks_than_were_asked_for_are_refused_before_they_are_hashed() -> None:
    name, _ = named(b"a")
    # The first one is damaged: were it looked at, that is what would be said.
    packed = car.write(name, [(name, b"damaged")] * 1000)
    with pytest.raises(car.BadCar, match="blocks"):
        car.read(packed, 999)


def test_a_length_has_one_form() -> None:
    name, data = named(b"a")
    packed = car.write(name, [(name, data)])
    at = len(packed) - len(data) - len(name) - 1
    assert packed[at] == 37
    with pytest.raises(car.BadCar):
        car.read(packed[:at] + b"\xa5\x00" + packed[at + 1 :], 1)


def named(data: bytes) -> tuple[bytes, bytes]:
    return cid.binary(cid.RAW, data), data


def binaries(count: int) -> list[bytes]:
    return [cid.binary(cid.RAW, str(number).encode()) for number in range(count)]


def batch_of(*contents: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    blocks = [named(data) for data in contents]
    root = cid.batch_root([name for name, _ in blocks])
    return root.cid, [(root.cid, root.block), *blocks]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def cbor_head(major: int, length: int) -> bytes:
    if length < 24:
        return bytes((major << 5 | length,))
    size = next(size for size in (1, 2, 4) if length < 1 << 8 * size)
    return bytes((major << 5 | {1: 24, 2: 25, 4: 26}[size],)) + length.to_bytes(size, "big")


@pytest.mark.parametrize("count", [90, 91, 92, 93])
def test_a_block_is_read_whether_its_length_takes_one_byte_or_two(count: int) -> None:
    data = b"d" * count
    name = cid.binary(cid.RAW, data)
    written = car.write(name, [(name, data)])
    length = cid.BYTES + count
    assert len(written) - len(car.write(name, [])) == length + (1 if length < 128 else 2)
    assert car.read(written, 1) == (name, [(name, data)])


def test_a_block_of_nothing_is_none() -> None:
    name = cid.binary(cid.RAW, b"")
    with pytest.raises(car.BadCar):
        car.read(car.write(name, [(name, b"")]), 1)


def test_a_block_has_one_cid_and_that_has_one_text() -> None:
    text = cid.raw(b"hello")
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    # The last character has two bits of nothing, the first five of nothing else than the version.
    last = [text[:-1] + letters[letters.index(text[-1]) + more] for more in (1, 2, 3)]
    first = [f"b{letter}{text[2:]}" for letter in letters[1:]]
    for other in (*last, *first):
        with pytest.raises(ValueError, match="CIDv1"):
            cid.to_bytes(other)


def test_a_batch_is_named_by_its_digest_alone_and_a_block_tells_its_kind() -> None:
    content = cid.binary(cid.RAW, b"hello")
    root = cid.batch_root([content])

    assert cid.of_root(root.cid[4:]) == cid.from_bytes(root.cid)
    assert cid.digest(cid.from_bytes(root.cid)) == root.cid[4:]
    assert cid.is_raw(content)
    assert not cid.is_raw(root.cid)


@pytest.mark.parametrize(
    ("count", "head"),
    [(23, "97"), (24, "9818"), (255, "98ff"), (256, "990100"), (65_535, "99ffff"), (65_536, "9a00010000")],
)
def test_a_list_begins_with_its_length_in_the_shortest_form(count: int, head: str) -> None:
    links = [cid.binary(cid.RAW, b"hello")] * count
    block = cid.batch_root(links).block
    assert block.startswith(bytes.fromhex(head) + b"\xd8\x2a")
    assert cid.links(block) == links
