"""Records that are sealed and signed already: what the layers below the gateway are measured with.

They name the writer keys that the members made for these patients' first records, so the chaincode takes them
by the same rules as any. The contents are sealed under keys of their own: nobody will read them.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from bench.load.payloads import templates
from bench.load.plan import Load
from bench.load.prepare import Item, Preparer, Recipe
from bench.load.session import Session
from bench.load.tally import Kept
from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1.state_pb2 import Batch, BatchItem, SealedBatch, StoredContent, WriterKey
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import cid, consortium, envelope, replica, signature
from cbmdhi.protocol.ids import uuid7

_PATIENTS = 200
_HOLDERS = ("MercyMSP", "LakesideMSP")


@dataclass(frozen=True)
class Sealed:
    """A record ready for Kubo and the channel: `block` is what IPFS keeps under `cid`."""

    item: Item
    batch_item: BatchItem
    cid: str
    block: bytes

    @property
    def stated_sha256(self) -> bytes:
        """What storage would say of it."""
        [content] = self.batch_item.contents
        return replica.stated(content.stored_bytes, content.writer_key)

    @property
    def kept(self) -> Kept:
        """What the check compares."""
        item = self.item
        return Kept(item.patient, item.record_id, item.command_sha256, item.content_sha256)


async def writer_keys(session: Session) -> dict[str, WriterKey]:
    """The writer keys of some patients, by address: each gets a record through the mesh for it."""
    engine: Client = session.cast.carriers[0]
    template = templates(1000)[0]
    chosen = [person.address for person in session.cast.patients[:_PATIENTS]]
    made: list[NewRecord] = []
    for address in chosen:
        record_id = uuid7()
        made.append(NewRecord(address, template.content(record_id, address), record_id))
    written = await engine.records.put_each(made)
    return {entry.record.patient: entry.receipt.stored.writer_key for entry in written if entry.ok}


def seal(session: Session, keys: dict[str, WriterKey], load: Load) -> list[Sealed]:
    """The records of a load, signed by its authors and sealed, about the patients of these writer keys."""
    recipe = Recipe(
        load,
        session.cast.carriers[0].wallet.consortium.signed_channel,
        session.cast.keys[: load.users],
        session.cast.outsider,
        list(keys),
        int(time.time() * 1000),
    )
    writer_key = secrets.token_bytes(32)
    items: Sequence[Item] = Preparer(recipe).items(range(load.operations))
    return [_sealed(item, keys[item.patient], writer_key) for item in items]


class Seals:
    """The word of the members' storage that they hold contents: by their keys, on this machine."""

    def __init__(self, endpoints: dict[str, Any]) -> None:
        pinned = consortium.load(Path(endpoints["consortium_file"]))
        self._genesis = pinned.signed_channel.genesis_sha256
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        for organisation in endpoints["organisations"].values():
            if organisation["msp_id"] in _HOLDERS:
                config = tomllib.loads(Path(organisation["services"]["storage"]["config"]).read_text())
                pem = Path(config["storage_signing_key_file"]).read_bytes()
                self._keys[organisation["msp_id"]] = signature.load_private_key(pem)

    def batch(self, records: Sequence[Sealed]) -> bytes:
        """The argument of `process` for some records that were sealed together."""
        root = cid.batch_root([cid.to_bytes(record.cid) for record in records])
        digest = cid.digest(cid.from_bytes(root.cid))
        for record in records:
            record.batch_item.contents[0].root_sha256 = digest
        contents = replica.contents(
            (record.cid, record.item.command_id, record.item.signer, record.stated_sha256)
            for record in records
        )
        receipts = [
            replica.sign_receipt(
                *(key, self._genesis, digest, hashlib.sha256(contents).digest(), msp, int(time.time() * 1000))
            )
            for msp, key in self._keys.items()
        ]
        seal = SealedBatch(root_sha256=digest, contents=contents, receipts=receipts)
        return Batch(items=[record.batch_item for record in records], seals=[seal]).SerializeToString()


def _sealed(item: Item, key: WriterKey, writer_key: bytes) -> Sealed:
    message = gateway_pb2.IngestItem.FromString(item.message)
    [content] = message.contents
    binding = envelope.Binding(item.patient, item.record_id, 1)
    sealed = envelope.seal(content.content, content.salt, binding, key.key_id, writer_key)
    [(name, block)] = sealed.blocks
    stored = StoredContent(
        command_index=0,
        cid=name,
        stored_bytes=len(block),
        writer_key=key,
        replicas=_HOLDERS,
    )
    if name != cid.raw(block):
        raise AssertionError("the CID of a block is not computed as Kubo does")
    return Sealed(item, BatchItem(group=message.group, contents=[stored]), name, block)
