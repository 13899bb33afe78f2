"""sealing.json: bind, CIDs, HPKE, envelopes, and the evidence of a registration."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import address, broken_glass, cid, envelope, hpke
from cbmdhi.protocol.binding import bind
from tests.vectors.commands import CONTENT, SALT
from tests.vectors.fixed import Vectors, hpke_private, kept, key, same, uuid

KEYS = {
    name: hpke_private(number)
    for name, number in (("vault", 5), ("patient", 7), ("reader", 9), ("reviewer", 11))
}
"""HPKE private keys: of mercy's vault, the patient's record key, a clinician who reads, an administrator."""
WRITER_KEY, DATA_KEY = bytes(range(64, 96)), bytes(range(96, 128))
NONCE, PREFIX = bytes(range(200, 212)), bytes(range(220, 227))
PATIENT, _REVIEWER = (address.of_public_key(key(number).public_key()) for number in (1002, 1004))
CLINICIAN = address.of_public_key(key(1005).public_key())
_EVIDENCE = {"name": "Ada Example", "birthDate": "1815-12-10"}
_EVIDENCE_KEY = bytes(range(128, 160))
_PLACE = envelope.Binding(PATIENT, uuid(1), 1)
_LONG = (1 << 20) + 5


def vectors(before: Vectors) -> Vectors:
    """All vectors; what is sealed is kept from the file for as long as it opens."""
    return {
        "bind": [
            {"parts": parts, "bound_hex": bind(*parts).hex()}
            for parts in ([], [""], ["a", "bc"], ["ab", "c"], ["naïve", "1"])
        ],
        "cids": [
            {"codec": "raw", "block_hex": CONTENT.hex(), "cid": cid.raw(CONTENT)},
            _list_of_links([CONTENT, SALT]),
        ],
        "hpke": {
            "keys": {
                name: {"private_key_hex": private.hex(), "public_key_hex": hpke.public_of(private).hex()}
                for name, private in KEYS.items()
            },
            "sealed": [_sealed(one, before) for one in _SEALED],
        },
        "envelopes": [
            _envelope("a small record, one chunk", CONTENT, lambda content: {"content_hex": content.hex()}),
            _envelope(
                "a large record, two chunks in blocks of their own",
                b"a" * _LONG,
                lambda content: {"content_is": {"byte_hex": "61", "times": len(content)}},
            ),
        ],
        "released": [_released(*one) for one in _RELEASED],
        "registration_evidence": _evidence(before.get("registration_evidence", {})),
    }


def _reason() -> bytes:
    return broken_glass.REASONS[0].encode().ljust(64, b"\x00")


_SEALED: list[tuple[str, str, bytes, Sequence[str]]] = [
    (hpke.RECORD_KEY, "vault", KEYS["patient"], (PATIENT, "MercyMSP")),
    (hpke.WRITER_KEY, "patient", WRITER_KEY, (PATIENT, "MercyMSP", uuid(30))),
    (hpke.DATA_KEY, "reader", DATA_KEY, (CLINICIAN, uuid(7), uuid(1), "1")),
    (hpke.EVIDENCE_KEY, "reviewer", _EVIDENCE_KEY, (PATIENT, _REVIEWER)),
    (
        hpke.BREAK_GLASS_REASON,
        "reviewer",
        _reason(),
        (_REVIEWER, CLINICIAN, PATIENT, uuid(1), "1", uuid(8)),
    ),
]
"""Label, to whose key, what is sealed, what it is bound to; in the order of docs/envelope.md."""


def _sealed(one: tuple[str, str, bytes, Sequence[str]], before: Vectors) -> Vectors:
    label, to, plain, binding = one
    there: list[Vectors] = before.get("hpke", {}).get("sealed", [])
    last = next((entry for entry in there if entry["label"] == label), {})
    sealed = kept(
        last,
        plain,
        lambda sealed: hpke.open(KEYS[to], sealed, label, *binding),
        lambda: hpke.seal(hpke.public_of(KEYS[to]), plain, label, *binding),
    )
    return {
        "label": label,
        "to": to,
        "bound_to": list(binding),
        "info_hex": (label.encode() + b"\x00" + bind(*binding)).hex(),
        "plain_hex": plain.hex(),
        "sealed_hex": sealed,
    }


def _saying(**says: object) -> bytes:
    return json.dumps({"resourceType": "Observation", **says}, separators=(",", ":")).encode()


_RELEASED: list[tuple[str, str, bytes, bytes, bytes, bool]] = [
    ("what its author wrote", "", CONTENT, CONTENT, PREFIX, False),
    ("another block, in which the same is", "root-cid", CONTENT, CONTENT, PREFIX[::-1], False),
    ("another chunk than the envelope names", "chunk-cid", CONTENT, CONTENT[:-1] + b" }", PREFIX, True),
    ("what its author did not commit to", "commitment", CONTENT, CONTENT + b" ", PREFIX, False),
    *(
        (f"a resource of another {what}", "resource", content, content, PREFIX, False)
        for what, content in {
            "patient": _saying(subject={"reference": f"Patient/{CLINICIAN}"}),
            "record": _saying(id=uuid(60)),
            "version": _saying(meta={"versionId": "2"}),
            "category": _saying(resourceType="Condition"),
        }.items()
    ),
]
"""Name, the check that fails, what is committed, what is released, the prefix of its nonces, whether in short
chunks."""


def _released(
    name: str, check: str, committed: bytes, content: bytes, prefix: bytes, in_chunks: bool
) -> Vectors:
    """What a reader is given of a version that is proven."""

    def sealed(content: bytes, prefix: bytes) -> envelope.SealedRecord:
        with (
            patch.object(envelope.os, "urandom", lambda count: (DATA_KEY + NONCE + prefix)[:count]),
            patch.object(envelope, "CHUNK_BYTES", 40 if in_chunks else envelope.CHUNK_BYTES),
        ):
            return envelope.seal(content, SALT, _PLACE, uuid(30), WRITER_KEY)

    given = [block for _, block in sealed(content, prefix).blocks]
    if in_chunks:
        given[0] = sealed(committed, prefix).blocks[0][1]
    proven = envelope.commitment(SALT, content if check == "chunk-cid" else committed)
    root = given[0] if check != "root-cid" else sealed(committed, PREFIX).blocks[0][1]
    return {
        "name": name,
        "check": check,
        "cid": cid.raw(root),
        "content_commitment_hex": proven.hex(),
        "blocks_hex": [block.hex() for block in given],
    }


def _envelope(name: str, content: bytes, told: Callable[[bytes], Vectors]) -> Vectors:
    place = _PLACE
    # What chance would give: data key, nonce of its wrapping, prefix of the chunks' nonces.
    with patch.object(envelope.os, "urandom", lambda count: (DATA_KEY + NONCE + PREFIX)[:count]):
        record = envelope.seal(content, SALT, place, uuid(30), WRITER_KEY)
    root = record.blocks[0][1]
    return {
        "name": name,
        "patient": place.patient,
        "record_id": place.record_id,
        "version": place.version,
        "salt_hex": SALT.hex(),
        **told(content),
        "content_commitment_hex": envelope.commitment(SALT, content).hex(),
        "writer_key_id": uuid(30),
        "writer_key_hex": WRITER_KEY.hex(),
        "data_key_hex": DATA_KEY.hex(),
        "wrapping_nonce_hex": NONCE.hex(),
        "nonce_prefix_hex": PREFIX.hex(),
        "header_hex": envelope.header(root)[0].hex(),
        "chunk_cids": envelope.chunk_cids(root),
        "root_block_hex": root.hex(),
        "cid": record.cid,
    }


def _list_of_links(blocks: Sequence[bytes]) -> Vectors:
    links = [cid.binary(cid.RAW, block) for block in blocks]
    root = cid.batch_root(links)
    return {
        "codec": "dag-cbor",
        "links": [cid.from_bytes(link) for link in links],
        "block_hex": root.block.hex(),
        "cid": cid.from_bytes(root.cid),
    }


def _evidence(before: dict[str, Any]) -> Vectors:
    plain = json.dumps(_EVIDENCE, separators=(",", ":")).encode()
    associated = b"cbmdhi/evidence/v1\x00" + PATIENT.encode()
    ciphertext = NONCE + AESGCM(_EVIDENCE_KEY).encrypt(NONCE, plain, associated)
    to_reviewer = kept(
        before,
        _EVIDENCE_KEY,
        lambda sealed: hpke.open(KEYS["reviewer"], sealed, hpke.EVIDENCE_KEY, PATIENT, _REVIEWER),
        lambda: hpke.seal(
            hpke.public_of(KEYS["reviewer"]), _EVIDENCE_KEY, hpke.EVIDENCE_KEY, PATIENT, _REVIEWER
        ),
    )
    sealed = identity_pb2.SealedEvidence(ciphertext=ciphertext)
    sealed.keys.add(reviewer=_REVIEWER, sealed=bytes.fromhex(to_reviewer))
    return {
        "patient": PATIENT,
        "reviewer": _REVIEWER,
        "plain_hex": plain.hex(),
        "key_hex": _EVIDENCE_KEY.hex(),
        "nonce_hex": NONCE.hex(),
        "sealed_hex": to_reviewer,
        "sealed_evidence_hex": same(sealed).hex(),
        "evidence_cid": cid.raw(same(sealed)),
    }
