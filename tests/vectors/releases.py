"""release.json: what a member gives a reader on a permitted Access, and all that it must not open as."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from cbmdhi.command.v1.state_pb2 import RecordVersion, StoredContent
from cbmdhi.protocol import cid, envelope, hpke
from cbmdhi.storage.v1.envelope_pb2 import Envelope, EnvelopeHeader
from cbmdhi.storage.v1.storage_pb2 import OpenResponse
from tests.vectors.commands import CONTENT, SALT
from tests.vectors.fixed import Vectors, kept, same, uuid
from tests.vectors.sealing import CLINICIAN, DATA_KEY, KEYS, NONCE, PATIENT, PREFIX, WRITER_KEY

_ACCESS, _RECORD = uuid(7), uuid(1)
_PLACE = envelope.Binding(PATIENT, _RECORD, 1)
_SHORT_BYTES = 40
_BOUND = (CLINICIAN, _ACCESS, _RECORD, "1")
_SEALED: list[tuple[str, str, Sequence[str]]] = [
    ("as it has to be", "reader", _BOUND),
    ("to another reader's key", "reviewer", _BOUND),
    ("for another reader", "reader", (PATIENT, *_BOUND[1:])),
    ("for another Access", "reader", (CLINICIAN, uuid(70), *_BOUND[2:])),
    ("for another record", "reader", (*_BOUND[:2], uuid(71), "1")),
    ("for another version", "reader", (*_BOUND[:3], "2")),
]
"""What is wrong with the data key, to whose key it is sealed, what it is bound to."""


def vectors(before: Vectors) -> Vectors:
    """All vectors; what is sealed is kept from the file for as long as it opens."""
    sealed = {name: _key(name, to, bound, before) for name, to, bound in _SEALED}
    right = bytes.fromhex(sealed["as it has to be"]["sealed_hex"])
    whole, parts = _blocks(_PLACE, in_parts=False), _blocks(_PLACE, in_parts=True)
    root, *chunks = parts
    good = [("one chunk", "", whole, right), ("several chunks", "", parts, right)]
    bad_keys = [
        (f"a data key {name}", "data-key", whole, bytes.fromhex(one["sealed_hex"]))
        for name, one in sealed.items()
        if name != "as it has to be"
    ]
    bad_keys.append(
        ("a data key with a changed byte", "data-key", whole, right[:-1] + bytes([right[-1] ^ 1]))
    )
    other = EnvelopeHeader.FromString(Envelope.FromString(root).header)
    other.writer_key_id = uuid(72)
    bad_chunks = [
        ("chunks in another order", _renamed(root, [chunks[1], chunks[0], *chunks[2:]])),
        ("chunks without the last", _renamed(root, chunks[:-1])),
        ("chunks and the last once more", _renamed(root, [*chunks, chunks[-1]])),
        (
            "a chunk with a changed byte",
            _renamed(root, [bytes([chunks[0][0] ^ 1]) + chunks[0][1:], *chunks[1:]]),
        ),
        ("chunks under another header", _renamed(root, chunks, same(other))),
        ("the envelope of another patient", _blocks(envelope.Binding(CLINICIAN, _RECORD, 1), in_parts=True)),
        ("the envelope of another record", _blocks(envelope.Binding(PATIENT, uuid(73), 1), in_parts=True)),
        ("the envelope of another version", _blocks(envelope.Binding(PATIENT, _RECORD, 2), in_parts=True)),
    ]
    cases = [*good, *bad_keys, *((name, "chunks", blocks, right) for name, blocks in bad_chunks)]
    return {
        "reader": CLINICIAN,
        "reader_private_key_hex": KEYS["reader"].hex(),
        "command_id": _ACCESS,
        "data_key_hex": DATA_KEY.hex(),
        "salt_hex": SALT.hex(),
        "content_hex": CONTENT.hex(),
        "sealed_data_keys": list(sealed.values()),
        "cases": [_case(*case) for case in cases],
    }


def _key(name: str, to: str, bound: Sequence[str], before: Vectors) -> Vectors:
    last = next((one for one in before.get("sealed_data_keys", []) if one["name"] == name), {})
    sealed = kept(
        last,
        DATA_KEY,
        lambda sealed: hpke.open(KEYS[to], sealed, hpke.DATA_KEY, *bound),
        lambda: hpke.seal(hpke.public_of(KEYS[to]), DATA_KEY, hpke.DATA_KEY, *bound),
    )
    return {"name": name, "to": to, "bound_to": list(bound), "sealed_hex": sealed}


def _blocks(place: envelope.Binding, *, in_parts: bool) -> list[bytes]:
    """An envelope's blocks, root first; in parts they are short, as no envelope's are."""
    with (
        patch.object(envelope.os, "urandom", lambda count: (DATA_KEY + NONCE + PREFIX)[:count]),
        patch.object(envelope, "CHUNK_BYTES", _SHORT_BYTES if in_parts else envelope.CHUNK_BYTES),
    ):
        sealed = envelope.seal(CONTENT, SALT, place, uuid(30), WRITER_KEY)
    return [block for _, block in sealed.blocks]


def _renamed(root: bytes, chunks: Sequence[bytes], header: bytes = b"") -> list[bytes]:
    """The chunks under a root that names them, so that every CID is right."""
    named = [cid.binary(cid.RAW, chunk) for chunk in chunks]
    return [same(Envelope(header=header or Envelope.FromString(root).header, chunk_cids=named)), *chunks]


def _case(name: str, check: str, blocks: Sequence[bytes], sealed: bytes) -> Vectors:
    record = RecordVersion(
        record_id=_RECORD,
        version=1,
        patient=PATIENT,
        category="observations",
        content_commitment=envelope.commitment(SALT, CONTENT),
        content=StoredContent(cid=cid.raw(blocks[0])),
    )
    given = OpenResponse(blocks=blocks, sealed_data_key=sealed, released_by="MercyMSP")
    return {
        "name": name,
        "valid": not check,
        **({"check": check} if check else {}),
        "record_hex": same(record).hex(),
        "open_response_hex": same(given).hex(),
    }
