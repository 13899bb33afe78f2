"""Whom Prometheus scrapes on a laptop network: from endpoints.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Group = dict[str, Any]


def targets(endpoints: Mapping[str, Any]) -> dict[str, list[Group]]:
    """By job: `host:port` and labels, as `file_sd_configs` reads them."""
    jobs: dict[str, list[Group]] = {
        "cbmdhi": [],
        "fabric-peer": [],
        "fabric-orderer": [],
        "fabric-ca": [],
        "ipfs": [],
    }
    for name, organisation in endpoints["organisations"].items():
        for service, where in organisation.get("services", {}).items():
            jobs["cbmdhi"].append(_group(where["metrics"], name, service=service))
        for job, part, key in (
            ("fabric-peer", "peer", "operations"),
            ("fabric-orderer", "orderer", "operations"),
            ("fabric-ca", "ca", "operations"),
            ("ipfs", "ipfs", "rpc"),
        ):
            if part in organisation:
                jobs[job].append(_group(organisation[part][key], name))
    return jobs


def write(endpoints: Mapping[str, Any], folder: Path) -> int:
    """Write `<job>.json` for each job into the folder; how many targets there are."""
    folder.mkdir(parents=True, exist_ok=True)
    found = targets(endpoints)
    for job, groups in found.items():
        (folder / f"{job}.json").write_text(json.dumps(groups, indent=1) + "\n", encoding="utf-8")
    return sum(map(len, found.values()))


def _group(url: str, organisation: str, **labels: str) -> Group:
    return {"targets": [url.removeprefix("http://")], "labels": {"organisation": organisation, **labels}}
