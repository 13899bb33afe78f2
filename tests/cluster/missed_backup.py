"""The runbook BackupMissing, followed: a night's backup fails, the alert fires, the page's commands mend it.

The rule is that of the manifests, but for its 36 hours; its metrics come from kube-state-metrics.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cbmdhi.waiting import until
from ops.devnet.layout import ROOT
from ops.manifests.rendering import Document
from ops.observe.prometheus import Prometheus
from tests.cluster import addons
from tests.cluster.node import Node
from tests.cluster.operator_day import NotAsItMust
from tests.cluster.proof_log import Account
from tests.drills import runbook
from tests.drills.runbook import BREAK, LOOK, MEND
from tests.drills.shell import CommandsFailed, Shell

ALERT = "BackupMissing"
RULES = ROOT / "deploy" / "k8s" / "components" / "monitoring" / "backup-rules.yaml"
_PORT = 9090
_NIGHT = "36 * 3600"
_NIGHT_SECONDS = 30
_KNOWN_SECONDS = 15.0
_FIRES_SECONDS = 90.0
_COMMAND_SECONDS = 150.0


async def follow(node: Node, member: str, keys: Path, folder: Path, account: Account) -> None:
    """Do it, for a member that has just been backed up.

    keys    the folder with the member's public recovery key
    folder  for Prometheus; it is made

    Raises:
        NotAsItMust: the alert or the page does not do what it should.
    """
    account.step(f"The runbook {ALERT} is followed")
    await asyncio.to_thread(folder.mkdir)
    page = runbook.read(ALERT)
    shell = Shell(keys, folder / "commands.log", keys, {"KUBECONFIG": str(node.kubeconfig)})
    [states] = [
        pod["metadata"]["name"]
        for pod in await asyncio.to_thread(node.get, "pods", "kube-system")
        if pod["metadata"]["name"].startswith("kube-state-metrics-")
    ]
    with node.forwarded("kube-system", states, addons.STATES_PORT) as address:
        hastened = configuration(yaml.safe_load(RULES.read_text()), address)
        async with Prometheus(
            folder, _PORT, {"organisations": {}}, lambda copy: _write(copy, hastened)
        ) as prometheus:

            async def known() -> bool:
                return bool(await prometheus.query(f'kube_cronjob_created{{namespace="{member}"}}'))

            async def firing() -> Mapping[str, Any] | None:
                return next(
                    (
                        alert
                        for alert in await prometheus.alerts()
                        if alert["labels"]["namespace"] == member and alert["state"] == "firing"
                    ),
                    None,
                )

            async def is_over() -> bool:
                return not await firing()

            async def seen() -> bool:
                try:
                    await shell.run(page.steps[LOOK], _COMMAND_SECONDS)
                except CommandsFailed:
                    return False
                return True

            await until(known, "kube-state-metrics is scraped", deadline_seconds=_KNOWN_SECONDS)
            if await firing():
                raise NotAsItMust(f"{ALERT} fires just after a backup")
            await _run(shell, page.steps[BREAK])
            alert = await until(firing, f"{ALERT} fires", deadline_seconds=_FIRES_SECONDS, every_seconds=0.5)
            account.proved(f"fires: {alert['annotations']['summary']}")
            await until(seen, "what the page says to look at", deadline_seconds=60, every_seconds=1)
            account.proved("what the page says to look at is there")
            await _run(shell, page.steps[MEND])
            await until(is_over, f"{ALERT} ends", deadline_seconds=_KNOWN_SECONDS, every_seconds=0.5)
            account.proved("the page's commands took a backup, and the alert is over")


def configuration(rules: Document, address: str) -> dict[str, Any]:
    """Prometheus' configuration and rules, as file name → document, with half a minute for the 36 hours.

    Raises:
        NotAsItMust: the rule is not written as it was.
    """
    text = json.dumps(rules["spec"])
    hastened, found = re.subn(re.escape(_NIGHT), str(_NIGHT_SECONDS), text)
    if found != 1:
        raise NotAsItMust(f"the rules of backups say {_NIGHT} {found} times, not once")
    return {
        "prometheus.yml": {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["backup.yml"],
            "scrape_configs": [
                {
                    "job_name": "kube-state-metrics",
                    # What it says of others' namespaces is theirs.
                    "honor_labels": True,
                    "static_configs": [{"targets": [address]}],
                }
            ],
        },
        "backup.yml": json.loads(hastened),
    }


def _write(copy: Path, documents: Mapping[str, Any]) -> None:
    shutil.rmtree(copy / "rules")
    for name, document in documents.items():
        # JSON is YAML.
        (copy / name).write_text(json.dumps(document))


async def _run(shell: Shell, commands: str) -> None:
    try:
        await shell.run(commands, _COMMAND_SECONDS)
    except CommandsFailed as exc:
        raise NotAsItMust(str(exc)) from exc
