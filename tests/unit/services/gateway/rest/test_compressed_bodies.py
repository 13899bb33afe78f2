"""Bodies that come compressed are not unpacked: nobody knows yet whose they are, and how large."""

import gzip
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from services.gateway.domain.source import Sources
from services.gateway.rest.body import Bodies
from services.gateway.rest.connection_limit import ConnectionLimit
from services.gateway.rest.request_slots import RequestSlots
from services.gateway.rest.server import MAX_BODY_BYTES, RestServer
from services.runtime.readiness import Readiness
from services.runtime.telemetry import Metrics
from tests.support.pki import Consortium
from tests.unit.services.runtime.test_compression import MIB, _peak_mib


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_compressed_body_is_refused_and_not_unpacked(tmp_path: Path, encoding: str) -> None:
    read: list[int] = []

    async def take(request: web.Request) -> web.Response:
        async with Bodies(128 * MIB).of(request, MAX_BODY_BYTES, "caller") as body:
            read.append(len(body))
        return web.Response()

    tls = Consortium(tmp_path / "pki").tls("gateway")
    sources = Sources(())
    server = RestServer(
        address="127.0.0.1:0",
        tls=tls,
        readiness=Readiness(),
        metrics=Metrics("gateway"),
        routes=[web.post("/fhir", take)],
        drain_seconds=1.0,
        sources=sources,
        connections=ConnectionLimit(sources, 100),
        anonymous_slots=RequestSlots(10, 10),
        anonymous={},
    )
    bomb = gzip.compress(bytes(256 * MIB))
    await server.start()
    try:
        nobody = ssl.create_default_context()
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=nobody)) as http:
            url = f"https://127.0.0.1:{server.port}/fhir"
            before = _peak_mib(begin=True)
            async with http.post(url, data=bomb, headers={"Content-Encoding": encoding}) as answer:
                refused = answer.status, await answer.json(content_type=None)
            grown = _peak_mib() - before
            async with http.post(url, data=b"{}") as answer:
                plain = answer.status
    finally:
        await server.stop(1.0)

    assert refused[0] == 415
    assert "not compressed" in refused[1]["issue"][0]["diagnostics"]
    assert grown < 16
    assert (plain, read) == (200, [2])
