"""A server that takes every call and removes its stream without a word: RST_STREAM, no gRPC status."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CANCEL = 0x8
"""What a peer sends when its own timer for the call has run out."""

_PREFACE_BYTES, _HEADER_BYTES = 24, 9
_HEADERS, _RST_STREAM, _SETTINGS, _PING = 0x1, 0x3, 0x4, 0x6
_ACK = 0x1


@asynccontextmanager
async def removing_streams(
    error_code: int, after_seconds: float = 0.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """The address.

    error_code     of RFC 9113, section 7
    after_seconds  since the call arrived
    tls            the server's; none: without it
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def remove(stream: int) -> None:
            writer.write(_frame(_RST_STREAM, 0, stream, error_code.to_bytes(4, "big")))

        await reader.readexactly(_PREFACE_BYTES)
        writer.write(_frame(_SETTINGS, 0, 0))
        try:
            while True:
                header = await reader.readexactly(_HEADER_BYTES)
                payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
                kind, flags, stream = header[3], header[4], int.from_bytes(header[5:], "big")
                if kind == _HEADERS:
                    asyncio.get_running_loop().call_later(after_seconds, remove, stream)
                elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                    writer.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
