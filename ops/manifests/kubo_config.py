"""Writes a Kubo node's configuration: `python -m ops.manifests.kubo_config`, in an init container.

The identity comes from a secret (`config`, as `ipfs init` made it), the settings from kubo.json, and the
other members' nodes from IPFS_PEERS: JSON, a list of {"ID", "Addrs"}.
"""

import json
import os
from pathlib import Path

from ops.devnet.templates import settle, write_secret

IDENTITY = Path("/run/secrets/ipfs/config")
SETTINGS = Path("/etc/ipfs/kubo.json")
# From here Kubo takes the configuration of a repository that it makes itself.
FIRST = Path("/run/init/config")


def configure(
    repository: Path, peers: str, *, identity: Path = IDENTITY, settings: Path = SETTINGS, first: Path = FIRST
) -> None:
    """Write the configuration of `repository`; of one that is not made yet, to `first`."""
    document = json.loads(identity.read_text())
    settle(document, json.loads(settings.read_text()))
    document["Peering"] = {"Peers": json.loads(peers)}
    text = json.dumps(document, indent=2) + "\n"
    write_secret(first, text)
    if (repository / "config").exists():
        write_secret(repository / "config", text)


if __name__ == "__main__":
    configure(Path(os.environ["IPFS_PATH"]), os.environ["IPFS_PEERS"])
