"""POST /fhir: transaction and batch of FHIR R4 (http://hl7.org/fhir/R4/http.html#transaction)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from services.gateway.domain.origin import Origins
from services.gateway.fhir.writer import FhirWriter, Written
from services.gateway.rest import outcome
from services.gateway.rest.auth import Authentication
from services.gateway.rest.body import Bodies
from services.gateway.rest.fhir import CONTENT_TYPE
from services.gateway.rest.server import MAX_BODY_BYTES
from services.gateway.rest.writes import BLOCK_HEADER, TRANSACTION_HEADER, check_is_json, wants_representation
from services.runtime.errors import MeshError, nothing_done, to_http


class FhirBundleRoutes:
    """A transaction is answered when all of it is committed and replicated, a batch when each entry is or is
    refused. The receipt of an entry is in its outcome."""

    def __init__(
        self, writer: FhirWriter, authentication: Authentication, bodies: Bodies, origins: Origins
    ) -> None:
        self._origins = origins
        self._writer = writer
        self._authentication = authentication
        self._bodies = bodies

    def routes(self) -> list[web.RouteDef]:
        """What to add to the application."""
        return [web.post("/fhir{slash:/?}", self.bundle, name="bundle")]

    async def bundle(self, request: web.Request) -> web.Response:
        """What a transaction or batch asks for."""
        async with AsyncExitStack() as stack:
            with nothing_done():
                session = await self._authentication.session(request)
                check_is_json(request)
                body = await stack.enter_async_context(
                    self._bodies.of(request, MAX_BODY_BYTES, session.address)
                )
            written = await self._writer.bundle(session, body)
        brings_resources = wants_representation(request)
        entries = [
            _refused(one) if isinstance(one, MeshError) else self._done(one, brings_resources)
            for one in written.entries
        ]
        kind = "transaction-response" if written.is_transaction else "batch-response"
        headers = {"Content-Type": CONTENT_TYPE}
        if written.is_transaction and isinstance(first := written.entries[0], Written):
            headers |= {TRANSACTION_HEADER: first.receipt.tx_id, BLOCK_HEADER: str(first.receipt.block)}
        answer = {"resourceType": "Bundle", "type": kind, "entry": entries}
        return web.Response(body=orjson.dumps(answer), headers=headers)

    def _done(self, one: Written, brings_resource: bool) -> dict[str, Any]:
        place = self._origins.url(f"/fhir/{one.kind}/{one.record_id}")
        response = {
            "status": "201 Created" if one.version == 1 else "200 OK",
            "location": f"{place}/_history/{one.version}",
            "etag": f'W/"{one.version}"',
            "outcome": outcome.of_receipt(one.receipt),
        }
        resource = {"resource": orjson.Fragment(one.content)} if brings_resource else {}
        return {"fullUrl": place, **resource, "response": response}


def _refused(err: MeshError) -> dict[str, Any]:
    status = HTTPStatus(to_http(err)[0])
    return {"response": {"status": f"{status.value} {status.phrase}", "outcome": outcome.of_error(err)}}
