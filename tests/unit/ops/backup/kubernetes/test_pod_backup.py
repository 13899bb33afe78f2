"""A member's pods are photographed at one instant, or there is no backup and all go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.backup import recovery_key
from ops.backup.archive import NAMESPACE, About, Counted, unpack
from ops.backup.errors import BackupError
from ops.backup.kubernetes import take as module
from ops.backup.kubernetes.api import Api
from ops.backup.sealed import SealedReader
from tests.support.fakes.kubernetes_api import Namespace, Pod, service_account, stateful_set
from tests.support.waiting import until
from tests.unit.ops.manifests.partners import GROWS, REWRITTEN, Partner, partners, script_of

NAMES = ("peer", "storage")


@pytest.fixture
async def members(tmp_path: Path) -> AsyncIterator[dict[str, Partner]]:
    """Two programs that write in turns, as the pods peer-0 and storage-0."""
    with partners(tmp_path / "pods") as both:
        found = dict(zip(NAMES, both, strict=True))
        for partner in found.values():
            await until(partner.goes_on(), "it writes")
        yield found


@pytest.fixture
def namespace(members: dict[str, Partner]) -> Namespace:
    there = Namespace()
    for name, partner in members.items():
        there.add("statefulsets", name, spec=stateful_set(name))
        there.add("secrets", f"{name}-keys", type="Opaque", data={"key": name}, immutable=True)
        there.pods[f"{name}-0"] = Pod(partner.script, partner.volume)
    mounted = {"template": {"spec": {"volumes": [{"secret": {"secretName": "device"}}, {"emptyDir": {}}]}}}
    there.add("deployments", "gateway", spec=mounted)
    there.add("secrets", "device", type="Opaque", data={"signing.key": "c2lnbg=="})
    there.add("configmaps", "consortium", data={"MercyMSP.pem": "root"})
    there.add("configmaps", "chaincode-release", data={"genesis-sha256": "00ff"})
    return there


@pytest.fixture
async def server(namespace: Namespace, tmp_path: Path) -> AsyncIterator[Api]:
    async with namespace.served(service_account(tmp_path / "account")) as found:
        yield found


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private = tmp_path / "mercy.key"
    recovery_key.make(private)
    return private


async def taken(server: Api, place: Path, key: Path) -> module.Backup:
    return await module.take(server, str(place), [key.with_name("mercy.key.pub")])


def opened(backup: Path, key: Path, into: Path) -> tuple[About, Counted]:
    into.mkdir()
    with backup.open("rb") as stream:
        return unpack(SealedReader(stream, recovery_key.recovery(key)), into, lambda _: None)


async def all_go_on(members: dict[str, Partner]) -> None:
    for partner in members.values():
        await until(partner.goes_on(), "it goes on")
        await until(lambda partner=partner: not list(partner.volume.glob(".cbmdhi-*")), "nothing is left")


async def refused(server: Api, members: dict[str, Partner], place: Path, key: Path, why: str) -> None:
    with pytest.raises(BackupError, match=why):
        await taken(server, place, key)
    assert not list(place.parent.glob("*backup*"))
    await all_go_on(members)


async def test_all_pods_are_shown_at_one_instant_while_they_write(
    server: Api, members: dict[str, Partner], key: Path, tmp_path: Path
) -> None:
    for attempt in range(3):
        told = await taken(server, tmp_path / f"backup-{attempt}", key)

        back = tmp_path / f"back-{attempt}"
        about, holds = opened(Path(told.place), key, back)
        assert (about.organisation, about.network, about.kind) == ("mercy", "00ff", NAMESPACE)
        assert holds == told.holds
        written = {
            (name, file): (back / "claims" / f"data-{name}-0" / file).read_bytes()
            for name in NAMES
            for file in (GROWS, REWRITTEN)
        }
        counts = {where: len(content) // 8 for where, content in written.items()}
        # They write in turns: had one gone on while the other was copied, they were far apart.
        assert max(counts.values()) - min(counts.values()) <= 1
        assert min(counts.values()) > 0
        for (_, file), content in written.items():
            expected = b"".join(number.to_bytes(8, "big") for number in range(len(content) // 8))
            assert content == expected, f"{file} holds what was written, in order"
        assert 0 < told.frozen_seconds < 3
        copied = sum(len(content) for (_, file), content in written.items() if file == REWRITTEN)
        assert told.copied_bytes == copied
        await all_go_on(members)


async def test_the_secrets_that_pods_mount_and_what_operators_made_are_in_it(
    server: Api, members: dict[str, Partner], key: Path, tmp_path: Path
) -> None:
    (tmp_path / "tapes").mkdir()
    told = await module.take(server, f"{tmp_path}/tapes/", [key.with_name("mercy.key.pub")])

    assert Path(told.place).name.startswith("mercy-20")
    back = tmp_path / "back"
    opened(Path(told.place), key, back)
    found = {path.stem: json.loads(path.read_text()) for path in (back / "objects").iterdir()}
    assert set(found) == {
        *("Secret-peer-keys", "Secret-storage-keys", "Secret-device"),
        *("ConfigMap-consortium", "ConfigMap-chaincode-release"),
    }
    assert found["Secret-device"] == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "device"},
        "type": "Opaque",
        "data": {"signing.key": "c2lnbg=="},
    }


async def test_when_one_pod_cannot_stand_still_there_is_no_backup(
    server: Api, namespace: Namespace, members: dict[str, Partner], key: Path, tmp_path: Path
) -> None:
    namespace.pods["storage-0"] = replace(namespace.pods["storage-0"], script=script_of(":"))
    await refused(server, members, tmp_path / "backup", key, "storage-0: no program runs here")


async def test_when_a_pod_goes_while_its_files_come_there_is_no_backup(
    server: Api, namespace: Namespace, members: dict[str, Partner], key: Path, tmp_path: Path
) -> None:
    (members["storage"].volume / "table.sst").write_bytes(b"x" * 5_000_000)
    namespace.pods["storage-0"].sends = 1_000_000
    await refused(server, members, tmp_path / "backup", key, "cannot be read whole")


async def test_what_may_not_be_read_is_missed_and_not_left_out(
    server: Api, namespace: Namespace, members: dict[str, Partner], key: Path, tmp_path: Path
) -> None:
    namespace.forbidden.add("device")
    await refused(server, members, tmp_path / "backup", key, '"device" is forbidden')
    namespace.forbidden = {"storage-0"}
    await refused(server, members, tmp_path / "backup", key, "No command can be run in storage-0: 403")
    namespace.forbidden = set()
    del namespace.objects["secrets"]["device"]
    await refused(server, members, tmp_path / "backup", key, "device is not among the secrets")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"replicas": 0}, "is scaled to 0"),
        ({"template": {"spec": {"shareProcessNamespace": False, "containers": []}}}, "stand still"),
    ],
)
async def test_a_workload_that_cannot_be_photographed_is_told_before_anything_stands_still(
    server: Api,
    namespace: Namespace,
    members: dict[str, Partner],
    key: Path,
    tmp_path: Path,
    change: dict[str, object],
    why: str,
) -> None:
    namespace.objects["statefulsets"]["storage"]["spec"] |= change
    await refused(server, members, tmp_path / "backup", key, why)
    assert not namespace.executed


async def test_without_a_recovery_key_or_with_the_private_one_nothing_stands_still(
    server: Api, namespace: Namespace, key: Path, tmp_path: Path
) -> None:
    for recipients, why in (([], "needs a recovery key"), ([key], "is the private recovery key")):
        with pytest.raises(BackupError, match=why):
            await module.take(server, str(tmp_path / "backup"), recipients)
    assert not namespace.executed
    assert not (tmp_path / "backup").exists()
