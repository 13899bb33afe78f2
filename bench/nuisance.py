"""Clients that a gateway has to live with: one that never reads, some that drip, thousands that sit idle."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from cbmdhi.client import Client
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.hammer.session import Session

IDLE = 2_000
DRIPPING = 20
_AT_ONCE = 32
_DESCRIPTORS = 8_192
# HTTP/2's preface and an empty SETTINGS frame (RFC 9113, 3.4): a client that said hello, and then nothing.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

Nuisance = Callable[[Session], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def never_reads(session: Session) -> AsyncIterator[None]:
    """One stream that sends for ever, and whose receipts nobody takes."""
    client: Client = session.cast.carriers[0]
    channel = _own_channel(client)
    stub = gateway_pb2_grpc.IngestServiceStub(channel)

    async def requests() -> AsyncIterator[gateway_pb2.IngestRequest]:
        number = 0
        while True:
            number += 1
            item = gateway_pb2.IngestItem(submission_id=f"unread-{number}" + "x" * 30)
            yield gateway_pb2.IngestRequest(items=[item])

    call: Any = stub.Ingest(requests(), metadata=await client.connection.metadata())
    try:
        yield
    finally:
        call.cancel()
        await channel.close()


@asynccontextmanager
async def dripping(session: Session) -> AsyncIterator[None]:
    """Connections that send one byte a second, and never enough of them for a request."""
    async with _connections(session, DRIPPING) as writers:

        async def drip() -> None:
            for byte in _HELLO[:-1]:
                for writer in writers:
                    with contextlib.suppress(ConnectionError):
                        writer.write(bytes((byte,)))
                await asyncio.sleep(1.0)

        task = asyncio.create_task(drip())
        try:
            yield
        finally:
            task.cancel()


@asynccontextmanager
async def idle(session: Session, count: int = IDLE) -> AsyncIterator[None]:
    """Authenticated HTTP/2 connections on which nothing happens."""
    async with _connections(session, count) as writers:
        for writer in writers:
            writer.write(_HELLO)
        yield


@asynccontextmanager
async def _connections(session: Session, count: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))
    client: Client = session.cast.carriers[0]
    context = await asyncio.to_thread(_context, client)
    host, _, port = client.member.gateway.grpc.rpartition(":")
    name = f"gateway.{client.member.name}"
    turns = asyncio.Semaphore(_AT_ONCE)

    async def connect() -> asyncio.StreamWriter:
        async with turns:
            _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
            return writer

    writers = list(await asyncio.gather(*(connect() for _ in range(count))))
    try:
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


def _own_channel(client: Client) -> grpc.aio.Channel:
    """A connection that no honest stream shares: what is not read must fill this one's window alone."""
    credentials = grpc.ssl_channel_credentials(
        client.member.tls_ca_pem.encode(),
        client.wallet.private_key_pem,
        client.wallet.certificate_pem.encode(),
    )
    options = [
        ("grpc.ssl_target_name_override", f"gateway.{client.member.name}"),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.secure_channel(client.member.gateway.grpc, credentials, options=options)


def _context(client: Client) -> ssl.SSLContext:
    """TLS with the client's own certificate, as gRPC would use it."""
    context = ssl.create_default_context(cadata=client.member.tls_ca_pem)
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "client.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(client.wallet.private_key_pem + client.wallet.certificate_pem.encode())
        context.load_cert_chain(chain)
    return context
