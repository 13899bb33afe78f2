"""The chaincode package of a member: it only says where the member's chaincode server is (ccaas)."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from ops.devnet.layout import Home
from ops.devnet.templates import write_secret
from ops.devnet.topology import CHAINCODE, Ports

LABEL = f"{CHAINCODE}_1"


def path(home: Home, organisation: str) -> Path:
    """Where a member's package lies. It holds the key with which the peer shows the chaincode who it is."""
    return home.organisation(organisation).chaincode / f"{CHAINCODE}.tar.gz"


def make(home: Home, organisation: str, ports: Ports) -> None:
    """Write a member's package. The same inputs give the same bytes, and so the same package id."""
    folder = home.organisation(organisation).chaincode / "peer-client"
    connection = {
        "address": ports.address(organisation, "chaincode"),
        "dial_timeout": "10s",
        "tls_required": True,
        "client_auth_required": True,
        "client_cert": (folder / "server.crt").read_text(),
        "client_key": (folder / "server.key").read_text(),
        "root_cert": (folder / "ca.crt").read_text(),
    }
    code = _tar_gz({"connection.json": json.dumps(connection, indent=2).encode()})
    metadata = json.dumps({"type": "ccaas", "label": LABEL}).encode()
    write_secret(path(home, organisation), _tar_gz({"metadata.json": metadata, "code.tar.gz": code}))


def package_id(home: Home, organisation: str) -> str:
    """What the peer will call the installed package: its label and the SHA-256 of its bytes."""
    return f"{LABEL}:{hashlib.sha256(path(home, organisation).read_bytes()).hexdigest()}"


def _tar_gz(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o600
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(archive.getvalue(), mtime=0)
