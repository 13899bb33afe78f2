"""The five services of each member: how they are started and what their config.toml says."""

from pathlib import Path
from typing import Any

import tomli_w

from ops.devnet import collector, genesis
from ops.devnet.layout import Home, Organisation
from ops.devnet.supervision import Program, python
from ops.devnet.templates import write
from ops.devnet.topology import CHAINCODE, CHANNEL, SERVICES, Ports, msp_id, program_name

DRAIN_SECONDS = 10
_ENROLMENTS_AT_ONCE = 1_000
_ENROLMENTS_PER_MINUTE = 6_000.0
_LOGINS_AT_ONCE = 5_000
_LOGINS_PER_MINUTE = 60_000.0
_REST_ANONYMOUS_PER_SOURCE = 128
_REST_CONNECTIONS_PER_SOURCE = 8_000
_KEEPS_DATA = ("ledger", "storage", "notify", "identity", "gateway")


# A batch is some hundred kilobytes: glibc would give such pieces back to the kernel at once, and fetch them
# again, page by page, for the next one.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"}
TUNING = {"PYTHONUNBUFFERED": "1", **_MALLOC}


def program(home: Home, organisation: str, service: str) -> Program:
    """A service of a member."""
    folder = home.organisation(organisation).service(service)
    return Program(
        name=program_name(organisation, service),
        argv=[python(), "-m", f"services.{service}", "--config", folder / "config.toml"],
        directory=folder,
        env=TUNING,
        # A moment more than the service itself takes to drain.
        stop_seconds=DRAIN_SECONDS + 5,
    )


def configure(home: Home, organisation: str, ports: Ports) -> None:
    """Write config.toml of each service of a member."""
    for service in SERVICES:
        folder = home.organisation(organisation).service(service)
        document = {
            **_common(home, organisation, service, ports),
            **_OWN[service](home, organisation, ports),
        }
        write(folder / "config.toml", tomli_w.dumps(_scalars_first(document)))


def _common(home: Home, organisation: str, service: str, ports: Ports) -> dict[str, Any]:
    folder = home.organisation(organisation).service(service)
    data = folder / "data"
    if service in _KEEPS_DATA:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "organisation": organisation,
        "msp_id": msp_id(organisation),
        "channel": CHANNEL,
        "listen_address": ports.address(organisation, service),
        "metrics_address": ports.address(organisation, f"{service}_metrics"),
        "drain_seconds": float(DRAIN_SECONDS),
        "log_level": "info",
        "otlp_endpoint": collector.endpoint(ports, organisation) if home.traced else "",
        "trace_ratio": 1.0 if home.traced else 0.0,
        "data_directory": str(data) if service in _KEEPS_DATA else "",
        "tls": {
            "certificate_file": str(folder / "tls" / "server.crt"),
            "key_file": str(folder / "tls" / "server.key"),
            "members": [
                {"msp_id": msp_id(member), "ca_file": str(home.organisation(member).tls_ca_certificate)}
                for member in home.members
            ],
        },
    }


def _ledger(home: Home, organisation: str, ports: Ports) -> dict[str, Any]:
    folders = home.organisation(organisation)
    return {
        "chaincode": CHAINCODE,
        **_own_peer(home, organisation, "ledger", ports),
        "nats": _nats(folders, "ledger", ports),
        "nats_monitor_url": f"http://{ports.address(organisation, 'nats_monitor')}",
    }


def _own_peer(home: Home, organisation: str, service: str, ports: Ports) -> dict[str, Any]:
    """The member's peer, and who the service is there."""
    folders = home.organisation(organisation)
    identity = folders.service(service) / "fabric"
    return {
        "peer": {
            "address": ports.address(organisation, "peer"),
            "tls_ca_file": str(folders.tls_ca_certificate),
            "tls_server_name": f"peer.{organisation}",
        },
        "fabric_identity": {
            "certificate_file": str(identity / "certificate.pem"),
            "key_file": str(identity / "key.pem"),
        },
    }


def _notify(home: Home, organisation: str, ports: Ports) -> dict[str, Any]:
    return {
        "genesis_sha256": genesis.sha256(home),
        "ledger_address": ports.address(organisation, "ledger"),
        "nats": _nats(home.organisation(organisation), "notify", ports),
    }


def _storage(home: Home, organisation: str, ports: Ports) -> dict[str, Any]:
    folder = home.organisation(organisation).service("storage")
    return {
        "genesis_sha256": genesis.sha256(home),
        "ledger_address": ports.address(organisation, "ledger"),
        "identity_address": ports.address(organisation, "identity"),
        "notify_address": ports.address(organisation, "notify"),
        "kubo_rpc_address": ports.address(organisation, "ipfs_rpc"),
        "vault_key_file": str(folder / "vault.key"),
        "storage_signing_key_file": str(folder / "signing.key"),
        "members": [
            {
                "msp_id": msp_id(member),
                "storage_address": ports.address(member, "storage"),
            }
            for member in home.members
        ],
        "client_ca": _client_ca(home),
        **_own_peer(home, organisation, "storage", ports),
    }


def _identity(home: Home, organisation: str, ports: Ports) -> dict[str, Any]:
    folders = home.organisation(organisation)
    return {
        "genesis_sha256": genesis.sha256(home),
        "ledger_address": ports.address(organisation, "ledger"),
        "storage_address": ports.address(organisation, "storage"),
        "fabric_ca_url": f"https://{ports.address(organisation, 'ca')}",
        "fabric_ca_tls_file": str(folders.tls_ca_certificate),
        "fabric_ca_name": "ca",
        "members": [
            {
                "msp_id": msp_id(member),
                "gateway_address": ports.address(member, "gateway"),
                "fabric_ca_file": str(home.organisation(member).ca_certificate),
            }
            for member in home.members
        ],
        "registrar_certificate_file": str(folders.registrar / "cert.pem"),
        "registrar_key_file": str(folders.registrar / "key.pem"),
        "token_key_file": str(folders.service("identity") / "token.key"),
        "gateway_device_address_file": str(_device(folders) / "address"),
        # Thousands of patients register for a load test; on a laptop nobody floods anybody.
        "enrolments_at_once": _ENROLMENTS_AT_ONCE,
        "enrolments_per_minute": _ENROLMENTS_PER_MINUTE,
    }


def _gateway(home: Home, organisation: str, ports: Ports) -> dict[str, Any]:
    return {
        "genesis_sha256": genesis.sha256(home),
        **{f"{name}_address": ports.address(organisation, name) for name in SERVICES if name != "gateway"},
        "first_contact_address": ports.address(organisation, "gateway_first_contact"),
        "rest_address": ports.address(organisation, "gateway_rest"),
        "public_origin": f"https://{ports.address(organisation, 'gateway_rest')}",
        "device_key_directory": str(_device(home.organisation(organisation))),
        "nats": _nats(home.organisation(organisation), "gateway", ports),
        # Everybody of a load test is at this one address.
        "enrolments_at_once": _ENROLMENTS_AT_ONCE,
        "enrolments_per_minute": _ENROLMENTS_PER_MINUTE,
        "logins_at_once": _LOGINS_AT_ONCE,
        "logins_per_minute": _LOGINS_PER_MINUTE,
        "rest_anonymous_per_source": _REST_ANONYMOUS_PER_SOURCE,
        "rest_connections_per_source": _REST_CONNECTIONS_PER_SOURCE,
        "client_ca": _client_ca(home),
    }


_OWN = {"ledger": _ledger, "notify": _notify, "storage": _storage, "identity": _identity, "gateway": _gateway}


def _client_ca(home: Home) -> list[dict[str, str]]:
    return [
        {"msp_id": msp_id(member), "ca_file": str(home.organisation(member).ca_certificate)}
        for member in home.members
    ]


def _nats(folders: Organisation, service: str, ports: Ports) -> dict[str, str]:
    tls = folders.service(service) / "tls"
    return {
        "url": f"tls://{ports.address(folders.name, 'nats')}",
        "ca_file": str(folders.tls_ca_certificate),
        "certificate_file": str(tls / "server.crt"),
        "key_file": str(tls / "server.key"),
    }


def _device(folders: Organisation) -> Path:
    return folders.service("gateway") / "device"


def _scalars_first(document: dict[str, Any]) -> dict[str, Any]:
    """TOML wants plain fields before sections."""
    plain = {name: value for name, value in document.items() if not _is_section(value)}
    return {**plain, **{name: value for name, value in document.items() if _is_section(value)}}


def _is_section(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
