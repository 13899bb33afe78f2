"""The Secrets and ConfigMaps that the manifests name (docs/kubernetes.md), out of what was enrolled."""

import base64
import json
from pathlib import Path

from ops.devnet import chaincode_package, fabric_ca, genesis
from ops.devnet.layout import Home
from ops.devnet.topology import MEMBERS, ORDERING, ORGANISATIONS, SERVICES, msp_id
from ops.manifests.listeners import PORTS
from ops.manifests.rendering import Document
from tests.cluster.node_config import DOMAIN

# Where the CA keeps its two halves: base/ca/ca.yaml.
CA_FOLDER = Path("/var/lib/cbmdhi")
_CA_FILE = CA_FOLDER / fabric_ca.IDENTITIES / "fabric-ca-server-config.yaml"

Files = dict[str, dict[str, Path]]


def ca_config(organisation: str, bootstrap_secret: str) -> Document:
    """What an organisation's CA starts with."""
    texts = fabric_ca.configurations(
        organisation,
        bootstrap_secret,
        port=PORTS["ca"]["https"],
        identity_ca_file=_CA_FILE,
        operations_address=f"0.0.0.0:{PORTS['ca']['ops']}",
    )
    return _secret(organisation, "ca-config", {f"{name}.yaml": text.encode() for name, text in texts.items()})


def secret_files(home: Home, organisation: str) -> Files:
    """Each Secret of an organisation: its keys, and the file of the operator's that holds each."""
    folders = home.organisation(organisation)
    if organisation == ORDERING:
        return {
            **_tls("orderer", folders.orderer / "tls"),
            **_tls("monitoring", folders.monitoring / "tls"),
            "orderer-msp": _msp(folders.orderer / "msp"),
        }
    device = folders.service("gateway") / "device"
    fabric = folders.service("ledger") / "fabric"
    storage = folders.service("storage")
    found: Files = {
        **_tls("peer", folders.peer / "tls"),
        **_tls("chaincode", folders.chaincode / "tls"),
        **_tls("nats", folders.nats / "tls"),
        **_tls("monitoring", folders.monitoring / "tls"),
        "peer-msp": _msp(folders.peer / "msp"),
        "ledger-fabric": _same(fabric, "certificate.pem", "key.pem"),
        "storage-fabric": _same(storage / "fabric", "certificate.pem", "key.pem"),
        "registrar": _same(folders.registrar, "cert.pem", "key.pem"),
        "identity-token-key": _same(folders.service("identity"), "token.key"),
        "gateway-device": _same(device, "signing.key", "hpke.key", "certificate.pem", "address"),
        "storage-keys": _same(storage, "vault.key", "signing.key"),
        "ipfs-identity": _same(folders.ipfs, "config", "swarm.key"),
    }
    for service in SERVICES:
        found |= _tls(service, folders.service(service) / "tls")
    return found


def config_maps(home: Home, organisation: str) -> dict[str, dict[str, str]]:
    """Each ConfigMap of a member; an ordering organisation needs none."""
    if organisation == ORDERING:
        return {}
    consortium: dict[str, str] = {}
    for other in ORGANISATIONS:
        folders = home.organisation(other)
        consortium[f"{msp_id(other)}.pem"] = folders.ca_certificate.read_text()
        consortium[f"{msp_id(other)}-tls.pem"] = folders.tls_ca_certificate.read_text()
    others = [other for other in MEMBERS if other != organisation]
    consortium["ipfs-peers"] = json.dumps(
        [{"ID": _peer_id(home, other), "Addrs": [_swarm(other)]} for other in others]
    )
    release = {
        "package-id": chaincode_package.package_id(home, organisation),
        "genesis-sha256": genesis.sha256(home),
    }
    return {"consortium": consortium, "chaincode-release": release}


def documents(home: Home, organisation: str) -> list[Document]:
    """All of them as Kubernetes takes them, but for the CA's."""
    secrets = [
        _secret(organisation, name, {key: path.read_bytes() for key, path in files.items()})
        for name, files in secret_files(home, organisation).items()
    ]
    maps: list[Document] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": organisation},
            "data": data,
        }
        for name, data in config_maps(home, organisation).items()
    ]
    return [*secrets, *maps]


def _secret(namespace: str, name: str, content: dict[str, bytes]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
    }


def _tls(program: str, folder: Path) -> Files:
    return {
        f"tls-{program}": {
            "tls.crt": folder / "server.crt",
            "tls.key": folder / "server.key",
            "ca.crt": folder / "ca.crt",
        }
    }


def _msp(folder: Path) -> dict[str, Path]:
    return {
        "config.yaml": folder / "config.yaml",
        "ca.pem": folder / "cacerts" / "ca.pem",
        "tlsca.pem": folder / "tlscacerts" / "tlsca.pem",
        "cert.pem": folder / "signcerts" / "cert.pem",
        "key.pem": folder / "keystore" / "key.pem",
    }


def _same(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / name for name in names}


def _peer_id(home: Home, organisation: str) -> str:
    document = json.loads((home.organisation(organisation).ipfs / "config").read_text())
    return str(document["Identity"]["PeerID"])


def _swarm(organisation: str) -> str:
    # The whole name: libp2p does not search the domains of resolv.conf.
    return f"/dns4/ipfs.{organisation}.svc.{DOMAIN}/tcp/{PORTS['ipfs']['swarm']}"
