"""The quickstart of the Fabric client's README, as it stands there, against a real peer."""

import asyncio
import re
import sys
from pathlib import Path

from ops.devnet import Network
from ops.devnet.layout import ROOT
from tests.contract.fabric_gateway.peer import Client


def quickstart() -> str:
    """The first Python in the README."""
    text = (ROOT / "fabric_gateway" / "README.md").read_text()
    found = re.search(r"^## Quickstart\n+```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


async def run(client: Client, folder: Path, argument: bytes) -> tuple[int, str]:
    """Exit code, and what was printed."""
    (folder / "quickstart.py").write_text(quickstart())
    (folder / "argument").write_bytes(argument)
    peer = client.peer
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "quickstart.py", peer["address"], peer["tls_ca_file"], peer["tls_server_name"]),
        *("MercyMSP", str(client.certificate_file), str(client.key_file)),
        *("cbmdhi", "cbmdhi", "process", "argument"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await program.communicate()
    return program.returncode or 0, out.decode()


async def test_the_quickstart_submits_and_reads_events_and_blocks(
    client: Client, network: Network, registration: bytes, tmp_path: Path
) -> None:
    code, printed = await run(client, tmp_path, registration)

    assert code == 0, printed
    committed, event, block = printed.splitlines()
    assert re.fullmatch(r"committed; the chaincode answered [1-9]\d* bytes", committed)
    assert re.fullmatch(r"block [1-9]\d*: \S+ of [0-9a-f]{8}", event)
    assert block.startswith("block 0: ")
    # It goes on behind that event, which it does not see again.
    again, seen = await run(client, tmp_path, registration)
    assert again == 0, seen
    assert seen.splitlines()[1] != event


async def test_the_quickstart_says_that_nothing_has_happened_when_the_chaincode_refuses(
    client: Client, tmp_path: Path
) -> None:
    code, printed = await run(client, tmp_path, b"\xff\xff")

    assert code == 1
    assert printed.startswith("nothing has happened: ")
    assert "CODE_INVALID" in printed
