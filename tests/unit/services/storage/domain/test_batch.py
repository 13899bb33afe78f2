"""What is sealed is one version of a record as its author committed to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import car, cid, envelope
from cbmdhi.protocol.envelope import SealedRecord
from cbmdhi.protocol.ids import uuid7
from services.runtime.refusal import Refused
from services.storage.domain import batch
from services.storage.domain.batch import PlainRecord
from services.storage.domain.keys import WriterKey, WriterKeyRef
from services.storage.domain.lease import Content

SALT, CONTENT = bytes(32), b"{}"
ITEM = PlainRecord(
    record_id=uuid7(),
    version=1,
    patient="cb1" + "a" * 32,
    content=CONTENT,
    salt=SALT,
    commitment=envelope.commitment(SALT, CONTENT),
    command_id=uuid7(),
    signer="cb1" + "b" * 32,
)


def with_content(count: int) -> PlainRecord:
    content = bytes(count)
    return replace(ITEM, content=content, commitment=envelope.commitment(SALT, content))


def test_an_item_that_is_as_it_should_be_is_sealed() -> None:
    assert batch.check_item(ITEM) is None


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"record_id": "MRN 4711"}, code_pb2.CODE_INVALID, "record_id"),
        ({"version": 0}, code_pb2.CODE_INVALID, "version"),
        ({"patient": "Jane Doe"}, code_pb2.CODE_INVALID, "patient"),
        ({"command_id": "one"}, code_pb2.CODE_INVALID, "command_id"),
        ({"signer": "Jane Doe"}, code_pb2.CODE_INVALID, "signer"),
        ({"salt": bytes(31)}, code_pb2.CODE_INVALID, "salt"),
        ({"salt": bytes(33)}, code_pb2.CODE_INVALID, "salt"),
        ({"commitment": bytes(32)}, code_pb2.CODE_INTEGRITY, "committed"),
        ({"content": b"another"}, code_pb2.CODE_INTEGRITY, "committed"),
    ],
)
def test_an_item_that_is_not_is_refused_with_what_is_wrong(
    changes: dict[str, Any], code: int, said: str
) -> None:
    found = batch.check_item(replace(ITEM, **changes))
    assert found is not None
    assert (found.code, said in found.reason) == (code, True)


def test_a_content_may_be_as_large_as_the_limit_and_no_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_CONTENT_BYTES", 100)
    assert batch.check_item(with_content(100)) is None
    found = batch.check_item(with_content(101))
    assert found is not None
    assert found.code == code_pb2.CODE_TOO_LARGE


def test_a_batch_has_items_and_not_more_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_ITEMS", 3)
    monkeypatch.setattr(batch, "MAX_BATCH_BYTES", 100)

    def code(*items: PlainRecord) -> int:
        try:
            batch.check_batch(items)
        except Refused as why:
            return why.code
        return code_pb2.CODE_OK

    assert code() == code_pb2.CODE_INVALID
    assert code(*[ITEM] * 3) == code_pb2.CODE_OK
    assert code(*[ITEM] * 4) == code_pb2.CODE_TOO_LARGE
    assert code(with_content(60), with_content(40)) == code_pb2.CODE_OK
    assert code(with_content(60), with_content(41)) == code_pb2.CODE_TOO_LARGE


def sealed(count: int, record_id: str = ITEM.record_id) -> SealedRecord:
    item = replace(with_content(count), record_id=record_id)
    key = WriterKey(WriterKeyRef("key-1", 1, bytes(32)), bytes(32), b"")
    return batch.seal_item(item, key)


SMALL, LARGE = sealed(2), sealed(envelope.CHUNK_BYTES, uuid7())
PACKED = batch.pack(batch.blocks_of([SMALL, LARGE]))
BLOB = batch.pack_blob(b"evidence, sealed")


def of(*cids: str, command_id: str = ITEM.command_id) -> list[Content]:
    return [Content(name, command_id, ITEM.signer, bytes(32)) for name in cids]


CONTENTS = of(SMALL.cid, LARGE.cid)


def test_an_item_is_sealed_for_its_place_under_its_writer_key() -> None:
    [(_, root)] = sealed(2).blocks
    header_bytes, header = envelope.header(root)
    place = envelope.Binding(ITEM.patient, ITEM.record_id, 1)
    opened = envelope.open([root], envelope.unwrap_data_key(header_bytes, bytes(32), place), place)
    assert (opened.content, opened.salt, header.writer_key_id) == (bytes(2), SALT, "key-1")


def test_a_batch_is_checked_to_be_what_was_packed() -> None:
    blocks = dict(batch.blocks_of([SMALL, LARGE]))
    packed = batch.pack(list(blocks.items()))
    found = batch.check_car(packed.car, packed.root_cid, CONTENTS)
    assert found.packed == packed == PACKED
    assert packed.root_block == cid.batch_root(list(map(cid.to_bytes, blocks))).block
    assert {cid.from_bytes(name): block for name, block in found.blocks.items()} == blocks
    assert found.chunks == {LARGE.cid: tuple(name for name, _ in LARGE.blocks[1:])}
    assert len(found.chunks[LARGE.cid]) == 2


def test_a_blob_is_a_batch_of_itself() -> None:
    blob = batch.pack_blob(b"evidence, sealed")
    found = batch.check_car(blob.car, blob.root_cid, of(blob.root_cid))
    assert (found.packed, list(found.blocks.values()), found.chunks) == (blob, [b"evidence, sealed"], {})
    assert (blob, blob.root_block) == (BLOB, b"")


def car_of(root: bytes, *blocks: bytes) -> bytes:
    return car.write(root, [(cid.binary(cid.RAW, block), block) for block in blocks])


def linked(*names: bytes, blocks: tuple[bytes, ...]) -> tuple[bytes, str]:
    """A CAR under a list of links, with these blocks behind it."""
    root = cid.batch_root(names)
    named = [(cid.binary(cid.RAW, block), block) for block in blocks]
    return car.write(root.cid, [(root.cid, root.block), *named]), cid.from_bytes(root.cid)


ONE, TWO = b"one", b"two"
NAME, OTHER = cid.binary(cid.RAW, ONE), cid.binary(cid.RAW, TWO)


@pytest.mark.parametrize(
    ("packed", "root_cid"),
    [
        (b"no CAR", BLOB.root_cid),
        (BLOB.car, "no CID"),
        (BLOB.car, PACKED.root_cid),
        (car.write(NAME, []), cid.from_bytes(NAME)),
        (car_of(NAME, TWO, ONE), cid.from_bytes(NAME)),
        (car_of(NAME, ONE, TWO), cid.from_bytes(NAME)),
        linked(NAME, OTHER, blocks=(ONE,)),
        linked(NAME, blocks=(ONE, TWO)),
        linked(NAME, OTHER, blocks=(TWO, ONE)),
        linked(NAME, NAME, blocks=(ONE, ONE)),
        linked(blocks=()),
        linked(cid.batch_root([NAME]).cid, blocks=()),
        (car_of(NAME, cid.batch_root([NAME]).block), cid.from_bytes(NAME)),
    ],
)
def test_what_is_not_exactly_what_it_is_named_is_no_batch(packed: bytes, root_cid: str) -> None:
    with pytest.raises(Refused):
        batch.check_car(packed, root_cid, of(cid.from_bytes(NAME)))


def test_a_list_of_links_is_no_blob_and_what_is_no_list_is_no_batch() -> None:
    """Unpinning the one would take the root of the other away."""
    links = cid.batch_root([NAME]).block
    named = cid.binary(cid.RAW, links)
    with pytest.raises(Refused, match="list of links"):
        batch.check_car(car.write(named, [(named, links)]), cid.from_bytes(named), of(cid.from_bytes(named)))
    root = cid.binary(cid.DAG_CBOR, ONE)
    with pytest.raises(Refused, match="list of links"):
        batch.check_car(car.write(root, [(root, ONE)]), cid.from_bytes(root), of(cid.from_bytes(NAME)))


def test_a_root_links_to_raw_blocks_alone() -> None:
    inner = cid.batch_root([NAME])
    root = cid.batch_root([inner.cid])
    packed = car.write(root.cid, [(root.cid, root.block), (inner.cid, inner.block)])
    with pytest.raises(Refused, match="raw blocks"):
        batch.check_car(packed, cid.from_bytes(root.cid), of(cid.from_bytes(inner.cid)))


def test_a_block_with_other_bytes_than_its_cid_is_found() -> None:
    changed = BLOB.car[:-1] + b"X"
    with pytest.raises(cid.HashMismatch):
        batch.check_car(changed, BLOB.root_cid, of(BLOB.root_cid))


@pytest.mark.parametrize(
    "contents",
    [
        [],
        of(SMALL.cid),
        of(LARGE.cid),
        of(SMALL.cid, LARGE.cid, SMALL.cid),
        of(SMALL.cid, LARGE.cid, LARGE.blocks[1][0]),
        of(SMALL.cid, BLOB.root_cid),
        of(SMALL.cid, LARGE.cid, command_id="one"),
        [CONTENTS[0], replace(CONTENTS[1], signer="Jane Doe")],
        [CONTENTS[0], replace(CONTENTS[1], stated_sha256=bytes(31))],
        [CONTENTS[0], replace(CONTENTS[1], stated_sha256=bytes(1))],
    ],
)
def test_each_block_is_a_content_that_is_named_once_or_a_chunk_of_one(contents: list[Content]) -> None:
    with pytest.raises(Refused):
        batch.check_car(PACKED.car, PACKED.root_cid, contents)


def test_evidence_has_nothing_stated_of_it_and_no_more_contents_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [content] = of(BLOB.root_cid)
    batch.check_car(BLOB.car, BLOB.root_cid, [replace(content, stated_sha256=b"")])
    monkeypatch.setattr(batch, "MAX_ITEMS", 2)
    batch.check_car(PACKED.car, PACKED.root_cid, CONTENTS)
    monkeypatch.setattr(batch, "MAX_ITEMS", 1)
    with pytest.raises(Refused, match="names no contents"):
        batch.check_car(PACKED.car, PACKED.root_cid, CONTENTS)
