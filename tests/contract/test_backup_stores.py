"""Backups in files and in a real S3-compatible server (Versity's gateway over a folder)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import boto3
import pytest

from ops.backup.errors import BackupError
from ops.backup.stores import reading, writing
from tests.support.s3 import s3_server
from tests.support.waiting import free_port

MIB = 1 << 20


class Stop(Exception):
    """What ends a backup in the middle."""


def break_off(place: str, size: int) -> None:
    with writing(place) as sink:
        sink.write(os.urandom(size))
        raise Stop


@pytest.fixture
async def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """The folder behind a running server with the bucket `backups`; the environment names the server."""
    async with s3_server(tmp_path / "s3", "backups") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield tmp_path / "s3"


@pytest.mark.parametrize("size", [10, 16 * MIB, 40 * MIB + 7])
async def test_what_is_written_to_s3_is_read_again_also_in_several_parts(s3: Path, size: int) -> None:
    content = os.urandom(size)
    with writing("s3://backups/mercy/one") as sink:
        for start in range(0, size, MIB):
            sink.write(content[start : start + MIB])
    with reading("s3://backups/mercy/one") as source:
        assert source.read() == content
    assert (s3 / "backups" / "mercy" / "one").stat().st_size == size


async def test_an_upload_that_is_broken_off_leaves_neither_object_nor_parts(s3: Path) -> None:
    with pytest.raises(Stop):
        break_off("s3://backups/mercy/one", 17 * MIB)
    client = boto3.client("s3")
    assert "Contents" not in client.list_objects_v2(Bucket="backups")
    assert not client.list_multipart_uploads(Bucket="backups").get("Uploads")


async def test_a_backup_in_s3_is_never_overwritten(s3: Path) -> None:
    with writing("s3://backups/one") as sink:
        sink.write(b"first")
    with pytest.raises(BackupError, match="there already"), writing("s3://backups/one"):
        pass
    with reading("s3://backups/one") as source:
        assert source.read() == b"first"
    # A name that only begins alike is another.
    with writing("s3://backups/on") as sink:
        sink.write(b"second")


async def test_what_is_wrong_with_the_store_is_said_with_what_to_look_at(
    s3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("s3://nowhere/one", "s3://backups/not-there"):
        with pytest.raises(BackupError, match="cannot be read") as missing, reading(place):
            pass
        assert "AWS_ENDPOINT_URL_S3" in missing.value.remedy
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(BackupError, match="cannot be written to"), writing("s3://backups/one"):
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BackupError, match="cannot be written to"), writing("s3://backups/one"):
        pass
    with pytest.raises(BackupError, match="names no object"), reading("s3://backups"):
        pass


def test_a_file_appears_whole_or_not_at_all_and_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "mercy.backup"
    with pytest.raises(Stop):
        break_off(str(file), 4)
    assert list(tmp_path.iterdir()) == []
    with writing(str(file)) as sink:
        sink.write(b"whole")
        assert not file.exists()
    assert file.read_bytes() == b"whole"
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupError, match="there already"), writing(str(file)):
        pass


def test_a_place_that_cannot_be_written_or_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="cannot be written"), writing(str(tmp_path / "no" / "folder")):
        pass
    with pytest.raises(BackupError, match="cannot be read"), reading(str(tmp_path / "nothing")):
        pass
