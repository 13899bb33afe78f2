"""The Fabric programs: peers, their chaincode servers, the orderers, and how they are configured."""

from ops.devnet import chaincode_package, collector, genesis
from ops.devnet.layout import Home, tool
from ops.devnet.supervision import Program
from ops.devnet.templates import TEMPLATES, fill, write
from ops.devnet.topology import ORDERER, Ports, msp_id, program_name

_LOG_FORMAT = "%{time:2006-01-02T15:04:05.000Z07:00} %{level} [%{module}] %{message}"


# At `warning` the first two name state keys, and with them addresses, whenever two transactions meet: the
# comparison of endorsements and the check of versions. What they tell is in the validation code too. The
# others print the certificate of whoever is turned away; that somebody was is in the answer and the metrics.
_TURNS_AWAY = "msp,policies,policy,aclmgmt,discovery.acl,endorser=error"
_PEER_LOGGING = f"gateway.responsechecker,validation=error:{_TURNS_AWAY}:warning"
_ORDERER_LOGGING = "msp,policies,orderer.common.msgprocessor=error:warning"

# Collect garbage less often: measured in bench/NOTES.md. A chaincode server's heap is small; a peer's is not:
# it may grow to three times what is alive, and not beyond the limit. Some 160 MiB are alive, with twenty
# thousand records as with a million (`make bench-growth`).
CHAINCODE_TUNING = {"GOGC": "400"}
PEER_TUNING = {
    "FABRIC_LOGGING_SPEC": _PEER_LOGGING,
    "FABRIC_LOGGING_FORMAT": _LOG_FORMAT,
    "GOGC": "200",
    "GOMEMLIMIT": "448MiB",
}
ORDERER_TUNING = {"FABRIC_LOGGING_SPEC": _ORDERER_LOGGING, "FABRIC_LOGGING_FORMAT": _LOG_FORMAT}


def peer_program(home: Home, organisation: str) -> Program:
    """The peer of a member."""
    folder = home.organisation(organisation).peer
    return Program(
        name=program_name(organisation, "peer"),
        argv=[tool("peer"), "node", "start"],
        directory=folder,
        env={"FABRIC_CFG_PATH": str(folder), **PEER_TUNING},
        stop_seconds=15,
    )


def orderer_program(home: Home, organisation: str) -> Program:
    """The orderer of an organisation."""
    folder = home.organisation(organisation).orderer
    return Program(
        name=program_name(organisation, ORDERER),
        argv=[tool("orderer")],
        directory=folder,
        env={"FABRIC_CFG_PATH": str(folder), **ORDERER_TUNING},
        stop_seconds=15,
    )


def chaincode_program(home: Home, organisation: str, ports: Ports) -> Program:
    """The chaincode server of a member. Before there is a package and a Genesis it cannot be started."""
    folder = home.organisation(organisation).chaincode
    tls = folder / "tls"
    known = chaincode_package.path(home, organisation).exists() and home.chaincode_genesis.exists()
    return Program(
        name=program_name(organisation, "chaincode"),
        argv=[tool("cbmdhi-chaincode")],
        directory=folder,
        env={
            "CHAINCODE_SERVER_ADDRESS": ports.address(organisation, "chaincode"),
            "CHAINCODE_ID": chaincode_package.package_id(home, organisation) if known else "",
            "CHAINCODE_TLS_KEY_FILE": str(tls / "server.key"),
            "CHAINCODE_TLS_CERT_FILE": str(tls / "server.crt"),
            "CHAINCODE_TLS_CLIENT_CA_FILE": str(tls / "ca.crt"),
            **CHAINCODE_TUNING,
            "CBMDHI_GENESIS_SHA256": genesis.sha256(home) if known else "",
            **(collector.variables(ports, organisation, "chaincode") if home.traced else {}),
        },
        stop_seconds=15,
    )


def configure_peer(home: Home, organisation: str, ports: Ports) -> None:
    """Write a peer's core.yaml."""
    folder = home.organisation(organisation).peer
    write(
        folder / "core.yaml",
        fill(
            "fabric/core.yaml",
            peer_id=f"peer.{organisation}",
            msp_id=msp_id(organisation),
            address=ports.address(organisation, "peer"),
            chaincode_address=ports.address(organisation, "peer_chaincode"),
            operations_address=ports.address(organisation, "peer_operations"),
            msp_directory=folder / "msp",
            data_directory=folder / "data",
            snapshots_directory=folder / "data" / "snapshots",
            tls_certificate=folder / "tls" / "server.crt",
            tls_key=folder / "tls" / "server.key",
            tls_ca=folder / "tls" / "ca.crt",
            ccaas_builder=TEMPLATES / "ccaas",
        ),
    )


def configure_orderer(home: Home, organisation: str, ports: Ports) -> None:
    """Write an orderer's orderer.yaml."""
    folder, data = home.organisation(organisation).orderer, home.organisation(organisation).orderer_data
    write(
        folder / "orderer.yaml",
        fill(
            "fabric/orderer.yaml",
            listen="127.0.0.1",
            port=ports.of(organisation, ORDERER),
            msp_id=msp_id(organisation),
            admin_address=ports.address(organisation, "orderer_admin"),
            operations_address=ports.address(organisation, "orderer_operations"),
            msp_directory=folder / "msp",
            data_directory=data,
            wal_directory=data / "etcdraft" / "wal",
            snapshot_directory=data / "etcdraft" / "snapshot",
            tls_certificate=folder / "tls" / "server.crt",
            tls_key=folder / "tls" / "server.key",
            tls_ca=folder / "tls" / "ca.crt",
        ),
    )
