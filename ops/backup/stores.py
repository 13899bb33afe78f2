"""Where backups lie: a file, or an object of an S3-compatible store (`s3://bucket/name`).

Access to S3 is told as to every program of AWS: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT_URL_S3, AWS_CA_BUNDLE, or its files. Nothing shows under the name before the backup is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ops.backup.errors import BackupError

# The store takes 10,000 parts: they grow, so that 800 GiB fit while a small backup needs little memory.
_PART_BYTES = 16 << 20
_PARTS_OF_A_SIZE = 1000
_LOOK_AT_S3 = "Look at AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's rights."


class Sink(Protocol):
    """Takes the bytes of a backup in order."""

    def write(self, data: bytes, /) -> object: ...


def named(place: str, organisation: str, taken: datetime) -> str:
    """`place`; where it ends with /, with a name made of organisation and time."""
    return f"{place}{organisation}-{taken:%Y%m%dT%H%M%SZ}.cbmdhi-backup" if place.endswith("/") else place


@contextmanager
def writing(place: str) -> Iterator[Sink]:
    """Where to write a new backup; it is there when the block ends well, and leaves nothing otherwise.

    Raises:
        BackupError: something is there already, or it cannot be written.
    """
    if place.startswith("s3://"):
        with _to_s3(*_bucket_and_key(place)) as sink:
            yield sink
        return
    try:
        with _to_file(Path(place)) as sink:
            yield sink
    except OSError as exc:
        raise BackupError(
            f"{exc.filename or place} cannot be written: {exc.strerror or exc}.",
            "Make room there; the destination may also be another: a folder elsewhere, or s3://BUCKET/NAME.",
        ) from exc


@contextmanager
def reading(place: str) -> Iterator[BinaryIO]:
    """A backup's bytes.

    Raises:
        BackupError: it is not there, or the store breaks off.
    """
    if place.startswith("s3://"):
        with _from_s3(*_bucket_and_key(place)) as source:
            yield source
        return
    try:
        with Path(place).open("rb") as source:
            yield source
    except (FileNotFoundError, IsADirectoryError, PermissionError) as exc:
        if exc.filename != place:
            raise
        raise BackupError(f"{place} cannot be read: {exc.strerror}.", "Name the backup's file.") from exc


@contextmanager
def _to_file(path: Path) -> Iterator[Sink]:
    if path.exists():
        raise _there_already(str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # Unlike a rename, a link does not take the place of a file that came meanwhile.
        os.link(partial, path)
    finally:
        partial.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Upload:
    """A multipart upload: the object appears when it is completed."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client = client
        self._object = {"Bucket": bucket, "Key": key}
        self._object["UploadId"] = client.create_multipart_upload(**self._object)["UploadId"]
        self._parts: list[dict[str, Any]] = []
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        if len(self._pending) >= _PART_BYTES * (1 + len(self._parts) // _PARTS_OF_A_SIZE):
            self._send()
        return len(data)

    def complete(self) -> None:
        self._send()
        self._client.complete_multipart_upload(**self._object, MultipartUpload={"Parts": self._parts})

    def abort(self) -> None:
        self._client.abort_multipart_upload(**self._object)

    def _send(self) -> None:
        number = len(self._parts) + 1
        answer = self._client.upload_part(**self._object, PartNumber=number, Body=bytes(self._pending))
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._pending.clear()


@contextmanager
def _to_s3(bucket: str, key: str) -> Iterator[Sink]:
    client, failures = _s3()
    try:
        found = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        if any(each["Key"] == key for each in found):
            raise _there_already(f"s3://{bucket}/{key}")
        upload = _Upload(client, bucket, key)
    except failures as exc:
        raise BackupError(f"s3://{bucket} cannot be written to: {exc}", _LOOK_AT_S3) from exc
    try:
        yield upload
        upload.complete()
    except BaseException as exc:
        with suppress(*failures):
            upload.abort()
        if isinstance(exc, failures):
            raise BackupError(
                f"The upload to s3://{bucket}/{key} broke off: {exc}", f"Try again. {_LOOK_AT_S3}"
            ) from exc
        raise


class _Download:
    """Says which object broke off, whatever the library calls it."""

    def __init__(self, body: Any, failures: tuple[type[Exception], ...], place: str) -> None:
        self._body = body
        self._failures = failures
        self._place = place

    def read(self, size: int = -1) -> bytes:
        try:
            return self._body.read(size if size >= 0 else None)
        except self._failures as exc:
            raise BackupError(f"The download of {self._place} broke off: {exc}", "Try again.") from exc


@contextmanager
def _from_s3(bucket: str, key: str) -> Iterator[BinaryIO]:
    client, failures = _s3()
    place = f"s3://{bucket}/{key}"
    try:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
    except failures as exc:
        raise BackupError(f"{place} cannot be read: {exc}", _LOOK_AT_S3) from exc
    with body:
        yield _Download(body, failures, place)  # type: ignore[misc]


def _s3() -> tuple[Any, tuple[type[Exception], ...]]:
    """A client, and what it raises. Imported here: half a second that other commands need not wait."""
    from boto3.exceptions import Boto3Error
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    settings = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"})
    failures = (Boto3Error, BotoCoreError, ClientError, HTTPError)
    try:
        return Session().client("s3", config=settings), failures
    except (*failures, ValueError) as exc:
        raise BackupError(f"The S3 store cannot be addressed: {exc}", _LOOK_AT_S3) from exc


def _bucket_and_key(place: str) -> tuple[str, str]:
    bucket, _, key = place.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise BackupError(f"{place} names no object.", "Write s3://BUCKET/NAME.")
    return bucket, key


def _there_already(place: str) -> BackupError:
    return BackupError(
        f"{place} is there already; a backup never takes another's place.",
        "Name another, or a folder with / at its end: the name is made then.",
    )
