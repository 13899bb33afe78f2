"""The restore drill on a node: a member is backed up under load, loses all its volumes, and is given back."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord
from cbmdhi.errors import MeshError
from cbmdhi.verify import verify_receipt
from cbmdhi.waiting import until
from ops.backup import recovery_key
from ops.backup.kubernetes import restore
from ops.manifests.rendering import Document
from tests.cluster import missed_backup
from tests.cluster.consortium import MANAGER, Consortium
from tests.cluster.operator_day import NotAsItMust
from tests.cluster.proof_log import Account
from tests.cluster.steady_load import Load

_JOB = "backup-by-hand"
_JOB_SECONDS = 120.0
_RECORDS = 20
# Longer is an outage, and the backup gives itself up (photograph.LONGEST_SECONDS).
_STILL_SECONDS = 3.0


class Drill:
    """On `member`."""

    def __init__(self, consortium: Consortium, member: str, account: Account) -> None:
        self._node = consortium.node
        self._member = member
        self._account = account
        self._key = consortium.home.path / "recovery" / f"{member}.key"

    async def prepare(self) -> None:
        """What an operator makes: recovery keys, ConfigMap and Secret with what backups need of them."""
        self._key.parent.mkdir(mode=0o700)
        public = recovery_key.make(self._key)
        settings = {"place": "/backups/", public.name: public.read_text()}
        document: Document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "backup", "namespace": self._member},
            "data": settings,
        }
        signing = recovery_key.signing_file(public)
        secret: Document = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "backup-signing", "namespace": self._member},
            "stringData": {signing.name: signing.read_text()},
        }
        await asyncio.to_thread(self._node.apply, [document, secret], MANAGER)
        # By hand here: the clock shall not take another one meanwhile.
        await self._kubectl("patch", "cronjob/backup", '--patch={"spec":{"suspend":true}}')

    async def back_up(self, load: Load) -> str:
        """Take a backup while records are written; where it lies, as pods see it."""
        self._account.step(f"{self._member} is backed up by its CronJob, under load")
        await load.moves_on(_RECORDS)
        load.begin_anew()
        await self._kubectl("create", "job", _JOB, "--from=cronjob/backup")
        await until(self._ended, "the backup ends", deadline_seconds=_JOB_SECONDS, every_seconds=0.5)
        said = (await self._kubectl("logs", f"job/{_JOB}", may_warn=True)).strip()
        told: dict[str, Any] = json.loads(said.splitlines()[-1])
        if "error" in told:
            raise NotAsItMust(f"there is no backup: {told['error']}")
        if not 0 < told["frozen_seconds"] < _STILL_SECONDS:
            raise NotAsItMust(f"its programs stood still for {told['frozen_seconds']} s")
        await load.moves_on(_RECORDS)
        tally, holds = load.tally, told["holds"]
        self._account.proved(
            f"{holds['files']} files, {holds['size'] / 1e6:.1f} MB, of one instant; programs stood still for "
            f"{told['frozen_seconds'] * 1000:.0f} ms, while {told['copied_bytes'] / 1e6:.1f} MB were copied"
        )
        self._account.proved(
            f"no request lost ({len(tally.written)} records so far; {tally.again} asked again; "
            f"longest wait {tally.longest:.1f} s)"
        )
        return str(told["place"])

    async def miss_a_night(self, folder: Path) -> None:
        """See missed_night.py; `folder` is made, for Prometheus."""
        await missed_backup.follow(self._node, self._member, self._key.parent, folder, self._account)

    async def destroy(self) -> None:
        """Empty every volume of the member, as after the loss of its disks."""
        self._account.step(f"{self._member} loses what its volumes held, and is given back")
        found = await self._kubectl("get", "deployments,statefulsets", "--output=name")
        await self._kubectl("scale", "--replicas=0", *found.split())
        await until(self._nothing_runs, "no pod runs", deadline_seconds=_JOB_SECONDS, every_seconds=1)
        emptied = await asyncio.to_thread(self._empty)
        self._account.proved(f"nothing is left of {', '.join(emptied)}")

    async def restore(self, place: str) -> None:
        """What `python -m ops.backup.kubernetes.restore` does."""
        # The vault's key and the one that signs receipts of replicas: they come back as well.
        await self._kubectl("delete", "secret", "storage-keys")
        told = await asyncio.to_thread(
            restore.restore, self._node.kubectl, self._member, place, self._key, self._account.note
        )
        if told["made"] != ["Secret/storage-keys"]:
            raise NotAsItMust(f"made again: {told['made']}")
        self._account.proved("the member is ready, with its volumes and a Secret out of the backup")

    async def read(self, patient: Client, records: Collection[NewRecord]) -> None:
        """Each version of a record is read once more at the member, and is what was written."""
        places = [(record.patient, record.record_id, record.version) for record in records]
        # As history: the story writes a record a second time, and else only the latest version is read.
        readings = await patient.records.read_many(places, "PATRQT", "history")
        for record, reading in zip(records, readings, strict=True):
            if isinstance(reading, MeshError):
                raise reading
            if reading.content != record.content:
                raise NotAsItMust("what was read is not what was written")
        self._account.proved(f"{len(places)} records that were written before are read and decrypted there")

    async def verify(self, patient: Client, tx_id: str, command_id: str) -> None:
        """A receipt of before the backup stands, by the restored peer's block."""
        found = await verify_receipt(patient, tx_id, command_id)
        if not found.ok:
            raise NotAsItMust(
                f"a receipt does not stand: {[check for check in found.checks if not check.ok]}"
            )
        names = ", ".join(check.name for check in found.checks)
        self._account.proved(f"a receipt of before stands there: {names}")

    def _empty(self) -> list[str]:
        volumes = {
            found["spec"]["claimRef"]["name"]: Path(found["spec"]["local"]["path"])
            for found in self._node.get("persistentvolumes")
            if found["spec"].get("claimRef", {}).get("namespace") == self._member
        }
        kept = volumes.pop("backups")
        if not any(kept.iterdir()):
            raise NotAsItMust("the backup does not lie in its volume")
        for folder in volumes.values():
            _empty(folder.iterdir())
        return sorted(volumes)

    async def _ended(self) -> bool:
        said = await self._kubectl("get", f"job/{_JOB}", "--output=json")
        conditions = json.loads(said).get("status", {}).get("conditions", [])
        return any(
            found["type"] in ("Complete", "Failed") and found["status"] == "True" for found in conditions
        )

    async def _nothing_runs(self) -> bool:
        found = await asyncio.to_thread(self._node.get, "pods", self._member)
        return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in found)

    async def _kubectl(self, *arguments: str, may_warn: bool = False) -> str:
        return await asyncio.to_thread(
            lambda: self._node.kubectl(*arguments, f"--namespace={self._member}", may_warn=may_warn)
        )


def _empty(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
