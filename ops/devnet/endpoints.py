"""endpoints.json, everything for programs of this machine, and consortium.json, what is public."""

import json
from collections.abc import Mapping
from typing import Any

from ops.devnet import genesis
from ops.devnet.layout import Home, Organisation, tool
from ops.devnet.supervision import Supervisor
from ops.devnet.templates import write
from ops.devnet.topology import (
    CHAINCODE,
    CHANNEL,
    ORDERER,
    ORDERING,
    SERVICES,
    Ports,
    msp_id,
    program_name,
    programs_of,
)


def write_endpoints(home: Home, ports: Ports, supervisor: Supervisor, pids: Mapping[str, int]) -> None:
    """Write endpoints.json; `pids` by program."""
    organisations = {org: _member(home, org, ports, pids) for org in home.members}
    organisations[ORDERING] = _any(home, home.organisation(ORDERING), ports, pids)
    document = {
        "version": 1,
        "channel": CHANNEL,
        "chaincode": CHAINCODE,
        "base_port": ports.base,
        "consortium_file": str(home.consortium_file),
        "supervisor": {"socket": str(supervisor.socket), "pid": pids.get("supervisord", 0)},
        "tools": {
            name.replace("-", "_"): str(tool(name))
            for name in ("fabric-ca-client", "peer", "osnadmin", "ipfs")
        },
        "organisations": organisations,
    }
    write(home.endpoints_file, json.dumps(document, indent=2) + "\n")


def write_consortium(home: Home, ports: Ports) -> None:
    """Write consortium.json: what a wallet pins."""
    document = {
        "version": 1,
        "channel": CHANNEL,
        "genesis_sha256": genesis.sha256(home),
        "chaincode": CHAINCODE,
        "members": [
            {
                "msp_id": msp_id(org),
                "name": org,
                "ca_pem": home.organisation(org).ca_certificate.read_text(),
                "tls_ca_pem": home.organisation(org).tls_ca_certificate.read_text(),
                "vault_public_key": genesis.vault_public_key(home, org).hex(),
                "storage_signing_key": genesis.storage_signing_key(home, org).hex(),
                "gateway": _gateway(org, ports),
            }
            for org in home.members
        ],
        "orderers": [
            {
                "msp_id": msp_id(org),
                "ca_pem": home.organisation(org).ca_certificate.read_text(),
                "tls_ca_pem": home.organisation(org).tls_ca_certificate.read_text(),
            }
            for org in home.orderers
        ],
    }
    write(home.consortium_file, json.dumps(document, indent=2) + "\n")


def _member(home: Home, org: str, ports: Ports, pids: Mapping[str, int]) -> dict[str, Any]:
    folders = home.organisation(org)
    return {
        **_any(home, folders, ports, pids),
        "gateway": _gateway(org, ports),
        "ipfs": {
            "rpc": f"http://{ports.address(org, 'ipfs_rpc')}",
            "swarm": ports.address(org, "ipfs_swarm"),
        },
        "peer": {
            "address": ports.address(org, "peer"),
            "operations": f"https://{ports.address(org, 'peer_operations')}",
            "tls_ca_file": str(folders.tls_ca_certificate),
            "tls_server_name": f"peer.{org}",
        },
        "chaincode": {"address": ports.address(org, "chaincode")},
        "nats": {
            "url": f"tls://{ports.address(org, 'nats')}",
            "monitor": f"http://{ports.address(org, 'nats_monitor')}",
            "ca_file": str(folders.tls_ca_certificate),
            "certificate_file": str(folders.admin / "tls" / "server.crt"),
            "key_file": str(folders.admin / "tls" / "server.key"),
        },
        "services": {
            service: {
                "grpc": ports.address(org, service),
                "metrics": f"http://{ports.address(org, f'{service}_metrics')}",
                "config": str(folders.service(service) / "config.toml"),
            }
            for service in SERVICES
        },
    }


def _orderer(folders: Organisation, ports: Ports) -> dict[str, str]:
    return {
        "address": ports.address(folders.name, ORDERER),
        "admin": ports.address(folders.name, "orderer_admin"),
        "operations": f"https://{ports.address(folders.name, 'orderer_operations')}",
        "tls_ca_file": str(folders.tls_ca_certificate),
    }


def _any(home: Home, folders: Organisation, ports: Ports, pids: Mapping[str, int]) -> dict[str, Any]:
    org = folders.name
    return {
        "msp_id": msp_id(org),
        **({"registrar": registrar(home, org, ports)} if org != ORDERING else {}),
        "ca": {
            "url": f"https://{ports.address(org, 'ca')}",
            "operations": f"http://{ports.address(org, 'ca_operations')}",
        },
        **({"orderer": _orderer(folders, ports)} if org in home.orderers else {}),
        "monitoring": {
            "certificate_file": str(folders.monitoring / "tls" / "server.crt"),
            "key_file": str(folders.monitoring / "tls" / "server.key"),
            "ca_file": str(folders.tls_ca_certificate),
        },
        "admin_msp_directory": str(folders.admin / "msp"),
        "tls_ca_file": str(folders.tls_ca_certificate),
        "ca_file": str(folders.ca_certificate),
        "programs": {
            name: {"pid": pids.get(name, 0), "log": str(home.log(name))}
            for name in (program_name(org, program) for program in programs_of(org, home.members))
        },
    }


def registrar(home: Home, org: str, ports: Ports) -> dict[str, str]:
    """What a member's operator needs to act as the registrar of its Fabric CA."""
    folders = home.organisation(org)
    return {
        "fabric_ca_url": f"https://{ports.address(org, 'ca')}",
        "certificate_file": str(folders.registrar / "cert.pem"),
        "key_file": str(folders.registrar / "key.pem"),
        "tls_file": str(folders.tls_ca_certificate),
        "ca_name": "ca",
    }


def _gateway(org: str, ports: Ports) -> dict[str, str]:
    return {
        "grpc": ports.address(org, "gateway"),
        "first_contact": ports.address(org, "gateway_first_contact"),
        "rest": f"https://{ports.address(org, 'gateway_rest')}",
    }
