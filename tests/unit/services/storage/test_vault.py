"""The vault: keys at rest, and the file they rest on."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import hpke
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.storage.domain.keys import Patient
from services.storage.schema import MIGRATIONS
from services.storage.vault import Vault, read_private_file

PRIVATE, _ = hpke.generate()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "storage.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    async with Database(file, MIGRATIONS) as database:
        yield database


def new_patient() -> Patient:
    return Patient("cb1" + "a" * 32, hpke.generate()[1], ())


async def test_a_key_file_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    key_file = tmp_path / "vault.key"
    key_file.write_bytes(PRIVATE)
    key_file.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        read_private_file(key_file)
    key_file.chmod(0o600)
    assert read_private_file(key_file) == PRIVATE


async def test_a_key_file_of_root_may_be_lent_to_the_group_as_kubernetes_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "vault.key"
    key_file.write_bytes(PRIVATE)
    key_file.chmod(0o440)
    monkeypatch.setattr(os, "geteuid", lambda: key_file.stat().st_uid + 1)
    assert read_private_file(key_file) == PRIVATE
    key_file.chmod(0o460)
    with pytest.raises(ValueError, match="0460"):
        read_private_file(key_file)
    key_file.chmod(0o444)
    with pytest.raises(ValueError, match="0444"):
        read_private_file(key_file)


async def test_no_writer_key_lies_on_the_disk_in_clear(database: Database, file: Path) -> None:
    patient = new_patient()
    made = await Vault(database, file, "MercyMSP", PRIVATE).make({patient: 1})
    written = await asyncio.to_thread(file.with_name("storage.db-wal").read_bytes)
    assert made[patient.address].ref.key_id.encode() in written
    assert made[patient.address].key not in written


async def test_a_key_is_made_once_for_a_patient_and_an_epoch(database: Database, file: Path) -> None:
    patient, vault = new_patient(), Vault(database, file, "MercyMSP", PRIVATE)
    first = await vault.make({patient: 1})
    assert await vault.make({patient: 1}) == first
    assert await vault.make({patient: 2}) != first


async def test_another_vault_key_opens_nothing_and_says_so(database: Database, file: Path) -> None:
    await Vault(database, file, "MercyMSP", PRIVATE).make({new_patient(): 1})
    other = Vault(database, file, "MercyMSP", hpke.generate()[0])
    with pytest.raises(MeshError) as caught:
        await other.check()
    assert caught.value.code == code_pb2.CODE_INTEGRITY
    assert "vault_key_file" in caught.value.reason


async def test_a_row_moved_to_another_patient_does_not_open(database: Database, file: Path) -> None:
    patient, vault = new_patient(), Vault(database, file, "MercyMSP", PRIVATE)
    made = (await vault.make({patient: 1}))[patient.address]
    async with database.transaction() as connection:
        await connection.execute("UPDATE writer_key SET patient = ?", ("cb1" + "b" * 32,))
    with pytest.raises(MeshError):
        await vault.keys([made.ref.key_id])
