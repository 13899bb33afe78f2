"""Clients that a gateway has to live with: one that never reads, some that drip, thousands that sit idle."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from bench.load.session import Session
from cbmdhi.client import Client
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc

IDLE = 2_000
DRIPPING = 20
_AT_ONCE = 32
_DESCRIPTORS = 8_192
# HTTP/2's preface and an empty SETTINGS frame (RFC 9113, 3.4): a client that said hello, and then nothing.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

_BEGIN_SECONDS = 30.0
_LAST = 19

Nuisance = Callable[[Session], AbstractAsyncContextManager[None]]


class _Login(NamedTuple):
    """What another process needs to call the gateway as a client does."""

    address: str
    name: str
    tls_ca_pem: bytes
    private_key_pem: bytes
    certificate_pem: bytes
    metadata: tuple[tuple[str, str], ...]


@asynccontextmanager
async def never_reads(session: Session) -> AsyncIterator[None]:
    """One stream that sends for ever, and whose receipts nobody takes.

    From a process of its own, which is last in the queue for a core: what it costs to send is no cost of the
    mesh, and the load generator's event loop would have to wait for it.
    """
    client: Client = session.cast.neighbour
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    login = _Login(
        client.member.gateway.grpc,
        f"gateway.{client.member.name}",
        client.member.tls_ca_pem.encode(),
        client.wallet.private_key_pem,
        client.wallet.certificate_pem.encode(),
        tuple((str(key), str(value)) for key, value in await client.connection.metadata()),
    )
    process = context.Process(target=_send_unread, args=(login, begun), daemon=True)
    process.start()
    try:
        if not await asyncio.to_thread(begun.wait, _BEGIN_SECONDS):
            raise TimeoutError("the client that never reads has not sent anything")
        yield
        if not process.is_alive():
            raise RuntimeError("the client that never reads was gone before the end")
    finally:
        process.kill()
        await asyncio.to_thread(process.join)


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


def _send_unread(login: _Login, begun: Event) -> None:
    os.nice(_LAST)
    asyncio.run(_unread(login, begun))


async def _unread(login: _Login, begun: Event) -> None:
    credentials = grpc.ssl_channel_credentials(login.tls_ca_pem, login.private_key_pem, login.certificate_pem)
    options = [("grpc.ssl_target_name_override", login.name)]

    async def requests() -> AsyncIterator[gateway_pb2.IngestRequest]:
        number = 0
        while True:
            number += 1
            item = gateway_pb2.IngestItem(submission_id=f"unread-{number}" + "x" * 30)
            yield gateway_pb2.IngestRequest(items=[item])
            begun.set()

    async with grpc.aio.secure_channel(login.address, credentials, options=options) as channel:
        call: Any = gateway_pb2_grpc.IngestServiceStub(channel).Ingest(requests(), metadata=login.metadata)
        # Ends only when the gateway ends it.
        await call.wait_for_connection()
        await call.code()


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
