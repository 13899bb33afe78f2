"""Compressed messages: what they are when they are unpacked is what counts, before they are."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.unit.services.runtime.net import Net, Start

MIB = 1 << 20
_BOMB_BYTES = 256 * MIB

# In a process of its own: what it compresses is not to be counted as the server's.
_CLIENT = """
import asyncio, sys, grpc
from pathlib import Path

async def main(address, ca, certificate, key, algorithm, size, times):
    credentials = grpc.ssl_channel_credentials(*(Path(one).read_bytes() for one in (ca, key, certificate)))
    options = [("grpc.ssl_target_name_override", "notify.mercy"), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.secure_channel(
        address, credentials, options=options, compression=grpc.Compression[algorithm]
    ) as channel:
        call, message = channel.unary_unary("/cbmdhi.notify.v1.InboxService/List"), bytes(int(size))
        calls = [call(message, timeout=100) for _ in range(int(times))]
        print([(await one.code()).name for one in calls][-1])

asyncio.run(main(*sys.argv[1:]))
"""


def _peak_mib(*, begin: bool = False) -> int:
    """Of this process's memory; since the last `begin`."""
    if begin:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


async def _send(net: Net, algorithm: str, size: int, times: int = 1) -> str:
    """The status of the last."""
    tls = net.consortium.tls("gateway")
    roots = next(member.ca_file for member in tls.members if member.msp_id == "MercyMSP")
    files = map(str, (roots, tls.certificate_file, tls.key_file))
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CLIENT, net.address, *files, algorithm, str(size), str(times)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await client.communicate()
    return said.decode().strip()


@pytest.mark.parametrize("algorithm", ["Gzip", "Deflate"])
async def test_a_bomb_of_zeros_is_not_unpacked(start: Start, algorithm: str) -> None:
    # As the gateway's: what is over 16 MiB and not over 32 gets its own refusal.
    net = await start(max_message_bytes=32 * MIB, read_ahead_bytes=256 * 1024)
    before = _peak_mib(begin=True)

    status = await _send(net, algorithm, _BOMB_BYTES)

    assert status not in ("", "OK")
    assert net.inbox.calls == 0
    assert _peak_mib() - before < 64


async def test_many_that_would_each_be_small_enough_are_not_unpacked_at_a_time(start: Start) -> None:
    """A thousandth of it on the wire, and before anybody looked at who sends it: no budget can be taken."""
    net = await start(max_message_bytes=32 * MIB, read_ahead_bytes=256 * 1024)
    before = _peak_mib(begin=True)

    status = await _send(net, "Gzip", 31 * MIB, times=40)

    assert status not in ("", "OK")
    assert net.inbox.calls == 0
    assert _peak_mib() - before < 64


async def test_nothing_comes_compressed_and_the_refusal_says_so(start: Start) -> None:
    net = await start()

    assert await _send(net, "Gzip", 0) == "UNIMPLEMENTED"
    assert await _send(net, "NoCompression", 0) == "OK"
