"""The member's vault: its HPKE key pair, and the writer keys that this member made, encrypted at rest."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Row

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cbmdhi.protocol import hpke, ids
from cbmdhi.protocol.binding import bind
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database, json_list
from services.storage.domain.keys import Patient, WriterKey, WriterKeyRef

_AT_REST = b"cbmdhi/vault-at-rest/v1"
_NONCE_BYTES = 12


def read_private_file(path: Path) -> bytes:
    """The bytes of a key file. Raises ValueError when others than its owner have access to it.

    If another user owns the file, this process's group may read it. That is how Kubernetes mounts a Secret,
    owned by root, for a process that is not root.
    """
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    lent = found.st_uid != os.geteuid() and found.st_gid in (os.getegid(), *os.getgroups())
    if mode & (0o037 if lent else 0o077):
        raise ValueError(f"{path} holds a private key and has mode {mode:04o}; run chmod 600 on it")
    return path.read_bytes()


class Vault:
    """Opens what is sealed to this member, and stores its writer keys.

    database_file  where `database` lies
    private_key    of `cbmdhi.protocol.hpke`, 96 bytes
    """

    def __init__(self, database: Database, database_file: Path, own_msp: str, private_key: bytes) -> None:
        self._database = database
        self._log_file = database_file.with_name(database_file.name + "-wal")
        self._own_msp = own_msp
        self._private_key = hpke.PrivateKey(private_key)
        self.public_key = hpke.public_of(private_key)
        at_rest = HKDF(SHA256(), 32, salt=None, info=_AT_REST).derive(private_key)
        self._at_rest = AESGCM(at_rest)

    async def held(self, patients: Iterable[str]) -> dict[str, list[WriterKeyRef]]:
        """The writer keys held here, by patient."""
        rows = await self._database.rows(
            "SELECT patient, key_id, epoch, sealed FROM writer_key"
            " WHERE patient IN (SELECT value FROM json_each(?))",
            (json_list(patients),),
        )
        found: dict[str, list[WriterKeyRef]] = defaultdict(list)
        for row in rows:
            found[row["patient"]].append(_ref(row))
        return found

    async def keys(self, key_ids: Iterable[str]) -> dict[str, WriterKey]:
        """The writer keys with those ids, as far as they are held here. Raises MeshError INTEGRITY."""
        rows = await self._database.rows(
            "SELECT * FROM writer_key WHERE key_id IN (SELECT value FROM json_each(?))",
            (json_list(key_ids),),
        )
        return {row["key_id"]: self._decrypt(row) for row in rows}

    async def make(self, wanted: Mapping[Patient, int]) -> dict[str, WriterKey]:
        """Make writer keys for patients and epochs. If another process made one first, gives that one.

        Gives them by patient, when they are on the disk.
        """
        made = await asyncio.to_thread(lambda: [self._new(*each) for each in wanted.items()])
        async with self._database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO writer_key (key_id, patient, epoch, at_rest, sealed) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (patient, epoch) DO NOTHING",
                made,
            )
        await asyncio.to_thread(_to_disk, self._log_file)
        pairs = json_list((patient.address, epoch) for patient, epoch in wanted.items())
        rows = await self._database.rows(
            "SELECT writer_key.* FROM json_each(?) AS pair JOIN writer_key"
            " ON patient = json_extract(pair.value, '$[0]') AND epoch = json_extract(pair.value, '$[1]')",
            (pairs,),
        )
        return {row["patient"]: self._decrypt(row) for row in rows}

    def open_as_custodian(
        self, patient: str, sealed_record_key: bytes, writer_msp: str, key_id: str, sealed_writer_key: bytes
    ) -> bytes:
        """Open a writer key with the record private key that the patient entrusted to this vault.

        Raises hpke.CannotOpen.
        """
        record_key = hpke.open(self._private_key, sealed_record_key, hpke.RECORD_KEY, patient, self._own_msp)
        return hpke.open(record_key, sealed_writer_key, hpke.WRITER_KEY, patient, writer_msp, key_id)

    async def check(self) -> str | None:
        """For readiness: what was written under this vault key opens with it."""
        row = await self._database.row("SELECT * FROM writer_key LIMIT 1")
        if row is not None:
            self._decrypt(row)
        return None

    def _new(self, patient: Patient, epoch: int) -> Sequence[object]:
        key_id, key = ids.uuid7(), AESGCM.generate_key(256)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        at_rest = nonce + self._at_rest.encrypt(nonce, key, _place(key_id, patient.address, epoch))
        sealed = hpke.seal(
            patient.record_public_key, key, hpke.WRITER_KEY, patient.address, self._own_msp, key_id
        )
        return key_id, patient.address, epoch, at_rest, sealed

    def _decrypt(self, row: Row) -> WriterKey:
        at_rest: bytes = row["at_rest"]
        place = _place(row["key_id"], row["patient"], row["epoch"])
        try:
            key = self._at_rest.decrypt(at_rest[:_NONCE_BYTES], at_rest[_NONCE_BYTES:], place)
        except InvalidTag as exc:
            raise MeshError.integrity(
                "the writer keys kept here were made under another vault key; give back that vault_key_file"
            ) from exc
        return WriterKey(_ref(row), key, row["sealed"])


def _to_disk(log_file: Path) -> None:
    """Make committed rows survive a power cut.

    Otherwise SQLite's write-ahead log reaches the disk only at the next checkpoint (synchronous = NORMAL).
    That is enough for what can be rebuilt, but a lost writer key is a lost record.
    """
    handle = os.open(log_file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ref(row: Row) -> WriterKeyRef:
    return WriterKeyRef(row["key_id"], row["epoch"], hashlib.sha256(row["sealed"]).digest())


def _place(key_id: str, patient: str, epoch: int) -> bytes:
    return bind(key_id, patient, str(epoch))
