"""`make k8s-generate`: writes what the manifests share with the laptop network and the architecture.

Everything under a folder `generated/` of deploy/k8s comes from here: the tuning and the Fabric, NATS and Kubo
settings out of ops.devnet, NetworkPolicies out of the table of docs/architecture.md.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from ops.devnet import fabric, kubo, nats, services
from ops.devnet.layout import ROOT
from ops.devnet.templates import fill, write
from ops.devnet.topology import INFRASTRUCTURE_OF_MEMBER, INFRASTRUCTURE_OF_ORDERING, SERVICES
from ops.manifests import allowed_calls, policies
from ops.manifests.listeners import PEER_CHAINCODE_PORT, PORTS

FOLDER = ROOT / "deploy" / "k8s"
RULES = ROOT / "deploy" / "prometheus" / "rules"
# Addresses reserved for documentation (RFC 5737): an operator writes the other organisations' in their place.
ELSEWHERE = ("192.0.2.0/24", "198.51.100.0/24")
_NOTE = "# Written by `make k8s-generate`; change its source (ops/manifests/generate.py), not this file.\n"
_MSP = "/run/secrets/msp"
_TLS = "/run/secrets/tls"
_DATA = "/var/lib/cbmdhi"


def main(argv: list[str]) -> int:
    """Write every file, or with `--check` only say which differ; the exit code."""
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT)} {'is not up to date: run make k8s-generate' if argv else 'written'}")
        if not argv:
            write(path, text)
    return 1 if argv and stale else 0


def files() -> dict[Path, str]:
    """Content of each generated file."""
    member, orderer = FOLDER / "base" / "member" / "generated", FOLDER / "base" / "orderer" / "generated"
    node = FOLDER / "base" / "orderer-node" / "generated"
    of_member, of_ordering = (*INFRASTRUCTURE_OF_MEMBER, *SERVICES), INFRASTRUCTURE_OF_ORDERING
    components = FOLDER / "components"
    known = allowed_calls.read()
    return {
        member / "python.env": _environment(services.TUNING),
        member / "peer.env": _environment(fabric.PEER_TUNING),
        member / "chaincode.env": _environment(fabric.CHAINCODE_TUNING),
        member / "ipfs.env": _environment(kubo.ENVIRONMENT),
        member / "nats.env": _environment(nats.TUNING),
        member / "core.yaml": _NOTE + _core(),
        member / "nats.conf": _NOTE + _nats(),
        member / "kubo.json": json.dumps(_kubo(), indent=2) + "\n",
        member / "network-policies.yaml": _documents(policies.within(known, of_member)),
        node / "orderer.env": _environment(fabric.ORDERER_TUNING),
        node / "orderer.yaml": _NOTE + _orderer(),
        orderer / "network-policies.yaml": _documents(policies.within(known, of_ordering)),
        components / "consortium-here" / "generated" / "network-policies.yaml": _documents(
            policies.across(known, of_member)
        ),
        components / "consortium-here-ordering" / "generated" / "network-policies.yaml": _documents(
            policies.across(known, of_ordering)
        ),
        components / "consortium-elsewhere" / "generated" / "network-policies.yaml": _documents(
            policies.across(known, of_member, ELSEWHERE)
        ),
        components / "backup" / "generated" / "network-policies.yaml": _documents(
            policies.of_programs(known, ("backup", "restore"))
        ),
        components / "monitoring" / "generated" / "prometheus-rules.yaml": _documents(_rules()),
    }


def _core() -> str:
    # What differs between organisations comes from the environment: CORE_PEER_… of the manifest.
    ports = PORTS["peer"]
    return fill(
        "fabric/core.yaml",
        peer_id="peer",
        msp_id="",
        address=f"0.0.0.0:{ports['grpc']}",
        chaincode_address=f"127.0.0.1:{PEER_CHAINCODE_PORT}",
        operations_address=f"0.0.0.0:{ports['ops']}",
        msp_directory=_MSP,
        data_directory=_DATA,
        snapshots_directory=f"{_DATA}/snapshots",
        **_tls(),
        ccaas_builder="/opt/cbmdhi/ccaas",
    )


def _orderer() -> str:
    ports = PORTS["orderer"]
    return fill(
        "fabric/orderer.yaml",
        listen="0.0.0.0",  # noqa: S104
        port=ports["grpc"],
        msp_id="",
        admin_address=f"0.0.0.0:{ports['admin']}",
        operations_address=f"0.0.0.0:{ports['ops']}",
        msp_directory=_MSP,
        data_directory=_DATA,
        wal_directory=f"{_DATA}/etcdraft/wal",
        snapshot_directory=f"{_DATA}/etcdraft/snapshot",
        **_tls(),
    )


def _nats() -> str:
    ports = PORTS["nats"]
    return fill(
        "nats/nats.conf",
        server_name="nats",
        users=nats.users(),
        address=f"0.0.0.0:{ports['client']}",
        monitor_address=f"0.0.0.0:{ports['monitor']}",
        store_directory=_DATA,
        **_tls(),
    )


def _kubo() -> dict[str, Any]:
    ports = PORTS["ipfs"]
    return kubo.settings(
        swarm=f"/ip4/0.0.0.0/tcp/{ports['swarm']}", api=f"/ip4/0.0.0.0/tcp/{ports['rpc']}", peers=[]
    )


def _rules() -> list[dict[str, Any]]:
    """A PrometheusRule for each file of rules that the laptop's Prometheus reads."""
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"cbmdhi-{path.stem}"},
            "spec": yaml.safe_load(path.read_text()),
        }
        for path in sorted(RULES.glob("*.yml"))
    ]


def _tls() -> dict[str, str]:
    return {
        "tls_certificate": f"{_TLS}/tls.crt",
        "tls_key": f"{_TLS}/tls.key",
        "tls_ca": f"{_TLS}/ca.crt",
    }


def _environment(variables: dict[str, str]) -> str:
    return _NOTE + "".join(f"{name}={value}\n" for name, value in variables.items())


def _documents(documents: list[dict[str, Any]]) -> str:
    return _NOTE + yaml.safe_dump_all(documents, sort_keys=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
