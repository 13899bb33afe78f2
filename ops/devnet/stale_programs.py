"""Programs that run from what has been built or written anew since they were started."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ops.devnet.layout import ROOT, tool
from ops.devnet.supervision import ProgramState
from ops.devnet.topology import SERVICES, split_program

_BINARIES = {
    "ca": "fabric-ca-server",
    "peer": "peer",
    "orderer": "orderer",
    "chaincode": "cbmdhi-chaincode",
    "ipfs": "ipfs",
    "nats": "nats-server",
    "otelcol": "otelcol",
}


def outdated(states: Mapping[str, ProgramState]) -> list[str]:
    """Names of the running programs that are older than what they would be started from now."""
    newest: dict[str, float] = {}
    old: list[str] = []
    for name, found in states.items():
        kind = split_program(name)[1]
        if kind not in newest:
            newest[kind] = max(path.stat().st_mtime for path in _sources(kind))
        # The supervisor knows the start in whole seconds.
        if found.pid and newest[kind] > found.started_at + 1:
            old.append(name)
    return old


def _sources(kind: str) -> Iterator[Path]:
    """What a program is started from."""
    if kind not in SERVICES:
        yield tool(_BINARIES[kind])
        return
    for folder in (
        f"services/{kind}",
        "services/runtime",
        "fabric_gateway",
        "cbmdhi/protocol",
        f"cbmdhi/{kind}/v1",
        "cbmdhi/command/v1",
    ):
        yield from (ROOT / folder).rglob("*.py")
