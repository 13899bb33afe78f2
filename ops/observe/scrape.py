"""Whom Prometheus scrapes on a laptop network: from endpoints.json.

Peers and orderers show their metrics to who has a certificate of their organisation's TLS CA. Prometheus
takes one certificate a job, so that each organisation has jobs of its own, whose series say `job` as
everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Group = dict[str, Any]


def targets(endpoints: Mapping[str, Any]) -> dict[str, list[Group]]:
    """By job: `host:port` and labels, as `file_sd_configs` reads them."""
    jobs: dict[str, list[Group]] = {"cbmdhi": [], "fabric-ca": [], "ipfs": []}
    for name, organisation in endpoints["organisations"].items():
        for service, where in organisation.get("services", {}).items():
            jobs["cbmdhi"].append(_group(where["metrics"], name, service=service))
        for job, part, key in (
            ("fabric-ca", "ca", "operations"),
            ("ipfs", "ipfs", "rpc"),
        ):
            if part in organisation:
                jobs[job].append(_group(organisation[part][key], name))
    return jobs


def jobs_of_fabric(endpoints: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`scrape_configs` of peers and orderers."""
    jobs: list[dict[str, Any]] = []
    for name, organisation in endpoints["organisations"].items():
        for part in ("peer", "orderer"):
            if part not in organisation:
                continue
            shown = organisation["monitoring"]
            jobs.append(
                {
                    "job_name": f"fabric-{part}-{name}",
                    "scheme": "https",
                    "tls_config": {
                        **{key: shown[key] for key in ("ca_file", "key_file")},
                        "cert_file": shown["certificate_file"],
                        # In every certificate of a TLS CA.
                        "server_name": "localhost",
                    },
                    "static_configs": [_group(organisation[part]["operations"], name)],
                    "relabel_configs": [{"target_label": "job", "replacement": f"fabric-{part}"}],
                }
            )
    return jobs


def write(endpoints: Mapping[str, Any], folder: Path) -> int:
    """Write `targets/<job>.json` for each job, and `scrape/fabric.yml`; how many targets there are."""
    found, fabric = targets(endpoints), jobs_of_fabric(endpoints)
    for name in ("targets", "scrape"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for job, groups in found.items():
        (folder / "targets" / f"{job}.json").write_text(json.dumps(groups, indent=1) + "\n", encoding="utf-8")
    (folder / "scrape" / "fabric.yml").write_text(
        yaml.safe_dump({"scrape_configs": fabric}), encoding="utf-8"
    )
    return sum(map(len, found.values())) + len(fabric)


def _group(url: str, organisation: str, **labels: str) -> Group:
    return {"targets": [url.partition("://")[2]], "labels": {"organisation": organisation, **labels}}
