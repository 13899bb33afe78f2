"""A member's volumes come back as they were photographed, or stay as they are."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.backup import recovery_key
from ops.backup.archive import NAMESPACE, NETWORK, About, Taken, pack
from ops.backup.errors import BackupError
from ops.backup.kubernetes import put
from ops.backup.kubernetes.api import Api
from ops.backup.sealed import SealedWriter
from tests.support.fakes.kubernetes_api import Namespace, service_account

ABOUT = About(1, "mercy", "00ff", "2026-11-23T02:17:00+00:00", "0.1.0", NAMESPACE)
FILES = {"data-peer-0": {"blocks/blockfile_000000": "old blocks"}, "data-storage-0": {"storage.db": "vault"}}
VAULT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "storage-keys"},
    "type": "Opaque",
    "data": {"vault.key": "b2xk"},
}
RELEASE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "chaincode-release"},
    "data": {"genesis-sha256": "00ff"},
}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private = tmp_path / "mercy.key"
    recovery_key.make(private)
    return private


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """Two volumes with a newer state in them, and what is not a member's."""
    folder = tmp_path / "claims"
    for name, content in {
        "data-peer-0/blocks/blockfile_000000": "newer blocks",
        "data-peer-0/lost+found/found": "of the disk",
        "data-storage-0/storage.db": "damaged",
        "data-storage-0/.cbmdhi-restored/left": "of a try that was killed",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def namespace() -> Namespace:
    there = Namespace()
    there.add("configmaps", "chaincode-release", data={"genesis-sha256": "00ff"})
    there.add("pods", "restore-1", **using("data-peer-0", "data-storage-0"))
    there.add("pods", "backup-1", **using("backups"))
    ended = using("data-peer-0")
    there.add("pods", "restore-0", **{**ended, "status": {"phase": "Failed"}})
    return there


@pytest.fixture
async def server(namespace: Namespace, tmp_path: Path) -> AsyncIterator[Api]:
    async with namespace.served(service_account(tmp_path / "account")) as found:
        yield found


def using(*claims: str) -> dict[str, Any]:
    """A running pod that mounts these."""
    volumes: list[dict[str, Any]] = [{"persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    return {"spec": {"volumes": [*volumes, {"emptyDir": {}}]}, "status": {"phase": "Running"}}


def backup(
    place: Path, key: Path, about: About = ABOUT, files: Mapping[str, Mapping[str, str]] = FILES
) -> Path:
    """A sealed backup of some claims, with a Secret and a ConfigMap."""
    taken = [_taken(f"objects/{doc['kind']}.json", json.dumps(doc)) for doc in (VAULT, RELEASE)]
    taken.append(_taken("claims.json", json.dumps(list(files))))
    for claim, found in files.items():
        taken += [_taken(f"claims/{claim}/{name}", content) for name, content in found.items()]
        taken.append(Taken(f"claims/{claim}/empty", place, 0o750, 0, is_folder=True))
    with place.open("wb") as stream:
        writer = SealedWriter(stream, [recovery_key.recipient(key.with_name("mercy.key.pub"))])
        pack(writer, about, taken, lambda _: None)
        writer.finish()
    return place


def _taken(name: str, content: str) -> Taken:
    return Taken(name, io.BytesIO(content.encode()), 0o640, len(content))


async def restored(server: Api, place: Path, key: Path, mounted: Path) -> dict[str, Any]:
    scratch = mounted.with_name(f"scratch-{len(list(mounted.parent.iterdir()))}")
    scratch.mkdir()
    return await put.restore(server, str(place), key, mounted, scratch, "restore-1")


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


async def refused(server: Api, place: Path, key: Path, mounted: Path, why: str) -> None:
    before = {name: text for name, text in files_below(mounted).items() if ".cbmdhi" not in name}
    with pytest.raises(BackupError, match=why):
        await restored(server, place, key, mounted)
    after = files_below(mounted)
    after.pop("data-storage-0/.cbmdhi-restored/left", None)
    assert after == before


async def test_volumes_come_back_and_what_was_there_is_moved_aside(
    server: Api, namespace: Namespace, key: Path, mounted: Path, tmp_path: Path
) -> None:
    told = await restored(server, backup(tmp_path / "one", key), key, mounted)

    aside = told["replaced"]
    assert files_below(mounted) == {
        "data-peer-0/blocks/blockfile_000000": "old blocks",
        f"data-peer-0/{aside}/blocks/blockfile_000000": "newer blocks",
        "data-peer-0/lost+found/found": "of the disk",
        "data-storage-0/storage.db": "vault",
        f"data-storage-0/{aside}/storage.db": "damaged",
    }
    assert (mounted / "data-storage-0" / "storage.db").stat().st_mode & 0o777 == 0o640
    assert (mounted / "data-peer-0" / "empty").stat().st_mode & 0o777 == 0o750
    assert told["about"]["organisation"] == "mercy"
    assert told["holds"]["files"] == 5


async def test_what_is_lost_is_made_again_and_what_is_there_stays(
    server: Api, namespace: Namespace, key: Path, mounted: Path, tmp_path: Path
) -> None:
    namespace.objects["configmaps"]["chaincode-release"]["data"]["package-id"] = "newer"
    told = await restored(server, backup(tmp_path / "one", key), key, mounted)

    assert told["made"] == ["Secret/storage-keys"]
    assert namespace.objects["secrets"]["storage-keys"] == VAULT
    assert namespace.objects["configmaps"]["chaincode-release"]["data"]["package-id"] == "newer"


async def test_a_backup_that_is_cut_or_changed_touches_nothing(
    server: Api, namespace: Namespace, key: Path, mounted: Path, tmp_path: Path
) -> None:
    whole = backup(tmp_path / "one", key).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:], b"tape"):
        (tmp_path / "bad").write_bytes(content)
        await refused(server, tmp_path / "bad", key, mounted, "backup")
    assert "secrets" not in namespace.objects


async def test_a_backup_of_somebody_or_something_else_touches_nothing(
    server: Api, key: Path, mounted: Path, tmp_path: Path
) -> None:
    for change, why in (
        ({"organisation": "lakeside"}, "is of lakeside, and this is mercy"),
        ({"network": "ffff"}, "of another network"),
        ({"kind": NETWORK}, "of a laptop network"),
    ):
        about = replace(ABOUT, **change)
        await refused(server, backup(tmp_path / why, key, about), key, mounted, why)
    other = tmp_path / "other.key"
    recovery_key.make(other)
    await refused(server, backup(tmp_path / "one", key), other, mounted, "not sealed to this recovery key")


async def test_a_backup_that_a_stranger_made_with_the_public_key_touches_nothing(
    server: Api, key: Path, mounted: Path, tmp_path: Path
) -> None:
    (tmp_path / "stranger").mkdir()
    theirs = tmp_path / "stranger" / "mercy.key"
    public = recovery_key.make(theirs)
    public.write_text(key.with_name("mercy.key.pub").read_text())

    await refused(server, backup(tmp_path / "one", theirs), key, mounted, "the member did not sign it")


async def test_claims_that_are_missing_or_too_many_are_told(
    server: Api, key: Path, mounted: Path, tmp_path: Path
) -> None:
    fewer = {"data-peer-0": FILES["data-peer-0"]}
    more = {**FILES, "data-nats-0": {"stream": "events"}}
    for files, wrong in ((fewer, "data-storage-0"), (more, "data-nats-0")):
        await refused(server, backup(tmp_path / wrong, key, files=files), key, mounted, f"claims: {wrong}")


async def test_nothing_is_touched_while_a_program_uses_the_volumes(
    server: Api, namespace: Namespace, key: Path, mounted: Path, tmp_path: Path
) -> None:
    namespace.add("pods", "peer-0", **using("data-peer-0"))
    await refused(server, backup(tmp_path / "one", key), key, mounted, "peer-0 uses the member's volumes")
