"""A batch to be sealed: its limits, the checks of an item, and the root that links its blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cbmdhi.protocol import address, car, cid, envelope, ids
from cbmdhi.protocol.envelope import Binding, SealedRecord
from services.runtime.refusal import Refused
from services.storage.domain.keys import WriterKey
from services.storage.domain.lease import Content

MIB = 1 << 20
MAX_ITEMS = 1_000
MAX_CONTENT_BYTES = 16 * MIB
MAX_BATCH_BYTES = 32 * MIB
MAX_CAR_BYTES = MAX_BATCH_BYTES + MIB // 2
"""Content plus the overhead of envelopes and CAR: under 300 bytes an item, under 100 a chunk."""
MAX_BLOCKS = 1 + MAX_ITEMS + MAX_BATCH_BYTES // envelope.CHUNK_BYTES + MAX_ITEMS
"""Most blocks of a CAR: its root, an envelope for each record, and chunks of large records."""
MAX_BLOB_BYTES = MIB
MAX_MESSAGE_BYTES = 33 * MIB
"""Largest gRPC message to and from storage."""


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """One version of a record, in clear, and the command that is to put it on the channel."""

    record_id: str
    version: int
    patient: str
    content: bytes
    salt: bytes
    commitment: bytes
    command_id: str
    signer: str


def check_batch(items: Sequence[PlainRecord]) -> None:
    """Check the batch as a whole. Raises Refused INVALID, TOO_LARGE."""
    if not items:
        raise Refused.invalid("the batch is empty; send 1 to 1,000 items")
    if len(items) > MAX_ITEMS:
        raise Refused.too_large(f"a batch has at most {MAX_ITEMS} items; send several")
    if sum(len(item.content) for item in items) > MAX_BATCH_BYTES:
        raise Refused.too_large(f"a batch has at most {MAX_BATCH_BYTES // MIB} MiB of content; send several")


def check_item(item: PlainRecord) -> Refused | None:
    """What is wrong with one item by itself. Hashes the content."""
    if not ids.is_uuid7(item.record_id):
        return Refused.invalid("record_id is not a UUIDv7 in canonical lower-case text")
    if item.version < 1:
        return Refused.invalid("version is missing; versions count from 1")
    if not address.is_address(item.patient):
        return Refused.invalid("patient is not an address")
    if not ids.is_uuid7(item.command_id):
        return Refused.invalid("command_id is not a UUIDv7 in canonical lower-case text")
    if not address.is_address(item.signer):
        return Refused.invalid("signer is not an address")
    if len(item.salt) != envelope.SALT_BYTES:
        return Refused.invalid(f"salt has {envelope.SALT_BYTES} random bytes of the author")
    if len(item.content) > MAX_CONTENT_BYTES:
        return Refused.too_large(f"a content has at most {MAX_CONTENT_BYTES // MIB} MiB")
    if envelope.commitment(item.salt, item.content) != item.commitment:
        return Refused.integrity("the content is not what its author committed to; send what was signed")
    return None


def seal_item(item: PlainRecord, key: WriterKey) -> SealedRecord:
    """The envelope of a checked item."""
    binding = Binding(item.patient, item.record_id, item.version)
    return envelope.seal(item.content, item.salt, binding, key.ref.key_id, key.key)


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch in one CAR. `root_block`: the list of links to its blocks; empty for a blob."""

    root_cid: str
    car: bytes
    root_block: bytes = b""


def pack(blocks: Sequence[tuple[str, bytes]]) -> Packed:
    """One CAR under a root that links to every block: pinning the root pins them all."""
    named = [(cid.to_bytes(name), data) for name, data in blocks]
    root = cid.batch_root([name for name, _ in named])
    return Packed(cid.from_bytes(root.cid), car.write(root.cid, [(root.cid, root.block), *named]), root.block)


def pack_blob(blob: bytes) -> Packed:
    """One CAR whose root is the blob itself."""
    name = cid.binary(cid.RAW, blob)
    return Packed(cid.from_bytes(name), car.write(name, [(name, blob)]))


@dataclass(frozen=True, slots=True)
class Root:
    """A block that links to others: its CID and its bytes."""

    cid: str
    block: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """A CAR that was checked.

    blocks  by binary CID, without the root of a batch
    chunks  CIDs of the chunks of each record that has several blocks, by the record's CID
    """

    packed: Packed
    blocks: dict[bytes, bytes]
    chunks: dict[str, tuple[str, ...]]


def check_car(packed: bytes, root_cid: str, contents: Sequence[Content]) -> Checked:
    """Check that a CAR is exactly the batch or blob of `root_cid`, and that its records are the contents.

    It must be complete, hold nothing else, and name each content once.
    Raises Refused INVALID, and cid.HashMismatch when a block does not match its CID.
    """
    try:
        root, blocks = car.read(packed, MAX_BLOCKS)
        named = cid.to_bytes(root_cid)
    except (car.BadCar, ValueError) as error:
        raise _not_a_batch("the bytes are not a CAR with CIDs of this project's kind") from error
    if root != named:
        raise _not_a_batch("the CAR has another root than was named")
    if not blocks or blocks[0][0] != root:
        raise _not_a_batch("the CAR does not begin with its own root")
    if cid.codec(root) == cid.RAW:
        if _is_list_of_links(blocks[0][1]):
            # A node stores blocks by their hash. Unpinning this blob would remove the root of a batch.
            raise _not_a_batch("a batch's list of links is sent as a blob")
        links, root_block, held = [], b"", dict(blocks)
    else:
        root_block = blocks[0][1]
        links, held = _links_of(root, root_block), dict(blocks[1:])
    if [name for name, _ in blocks[1:]] != links or len(held) != max(1, len(links)):
        raise _not_a_batch("the CAR holds other blocks than its root links to, or not in that order")
    chunks = _check_contents(held, contents)
    return Checked(Packed(root_cid, packed, root_block), held, chunks)


def _check_contents(held: Mapping[bytes, bytes], contents: Sequence[Content]) -> dict[str, tuple[str, ...]]:
    """The chunks of each record that has several blocks."""
    if not 1 <= len(contents) <= MAX_ITEMS:
        raise _not_a_batch("it names no contents, or over 1,000")
    blocks = {cid.from_bytes(name): block for name, block in held.items()}
    chunks: dict[str, tuple[str, ...]] = {}
    for content in contents:
        if content.cid not in blocks or not ids.is_uuid7(content.command_id):
            raise _not_a_batch("a content is not one of its blocks, or belongs to no command")
        if not address.is_address(content.signer):
            raise _not_a_batch("a content's command has no signer")
        if len(content.stated_sha256) not in (0, 32):
            raise _not_a_batch("what is stated of a content is not a hash")
        if names := _chunks_of(blocks[content.cid]):
            chunks[content.cid] = names
    everything = [content.cid for content in contents] + [one for names in chunks.values() for one in names]
    if len(everything) != len(blocks) or blocks.keys() != set(everything):
        raise _not_a_batch("its blocks are not the contents that are named, each once, and their chunks")
    return chunks


def _chunks_of(block: bytes) -> tuple[str, ...]:
    try:
        return tuple(envelope.chunk_cids(block))
    except envelope.CannotOpen:
        # Evidence, or an envelope that nobody can open. That concerns its reader only.
        return ()


def _is_list_of_links(block: bytes) -> bool:
    try:
        cid.links(block)
    except ValueError:
        return False
    return True


def _links_of(root: bytes, root_block: bytes) -> list[bytes]:
    try:
        links = cid.links(root_block)
    except ValueError as error:
        raise _not_a_batch("the root is not a list of links in its one canonical form") from error
    if cid.binary(cid.DAG_CBOR, root_block) != root:
        raise _not_a_batch("the root's CID is not that of the list of links")
    if not all(map(cid.is_raw, links)):
        raise _not_a_batch("the root links to more than raw blocks")
    return links


def blocks_of(records: Iterable[SealedRecord]) -> list[tuple[str, bytes]]:
    """All blocks of some records, in order."""
    return [block for record in records for block in record.blocks]


def _not_a_batch(why: str) -> Refused:
    return Refused.invalid(f"the CAR cannot be held: {why}", "car")
