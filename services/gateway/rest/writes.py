"""POST and PUT /fhir/…: create and update of FHIR R4 (http://hl7.org/fhir/R4/http.html#create, #update)."""

from __future__ import annotations

import re
from collections.abc import Set
from contextlib import AsyncExitStack

from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import ids
from services.gateway.domain.origin import Origins
from services.gateway.fhir.writer import FhirWriter, Written
from services.gateway.rest.auth import Authentication
from services.gateway.rest.body import Bodies
from services.gateway.rest.fhir import CONTENT_TYPE
from services.gateway.rest.server import MAX_BODY_BYTES
from services.runtime.errors import MeshError, nothing_done

TRANSACTION_HEADER = "Cbmdhi-Transaction"
COMMAND_HEADER = "Cbmdhi-Command"
BLOCK_HEADER = "Cbmdhi-Block"
_TYPES = (CONTENT_TYPE, "application/json")
_ETAG = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')
_VERSION_PATH = "body.put_record.version"


class FhirWriteRoutes:
    """create and update, for types that name a patient. The receipt is in the headers of the answer."""

    def __init__(
        self,
        writer: FhirWriter,
        authentication: Authentication,
        bodies: Bodies,
        resource_types: Set[str],
        origins: Origins,
    ) -> None:
        self._origins = origins
        self._writer = writer
        self._authentication = authentication
        self._bodies = bodies
        self._types = resource_types

    def routes(self) -> list[web.RouteDef]:
        """What to add to the application."""
        return [
            web.post("/fhir/{type}", self.create, name="create"),
            web.put("/fhir/{type}/{id}", self.update, name="update"),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """A new record, under an id of the server's."""
        async with AsyncExitStack() as stack:
            with nothing_done():
                session = await self._authentication.session(request)
                resource_type = self._type(request)
                if "If-None-Exist" in request.headers:
                    raise MeshError(
                        code_pb2.CODE_INVALID,
                        "a conditional create asks for a search, and contents are encrypted: PUT with an id "
                        "of yours (a UUIDv7) and `If-None-Match: *`",
                    )
                body = await stack.enter_async_context(
                    self._bodies.of(request, MAX_BODY_BYTES, session.address)
                )
            return self._answer(request, await self._writer.create(session, resource_type, body))

    async def update(self, request: web.Request) -> web.Response:
        """The next version of a record, or the first under an id of the client's."""
        async with AsyncExitStack() as stack:
            with nothing_done():
                session = await self._authentication.session(request)
                resource_type, record_id = self._type(request), request.match_info["id"]
                if not ids.is_uuid7(record_id):
                    raise MeshError(code_pb2.CODE_INVALID, "an id is a UUIDv7 in canonical lower-case text")
                version = _version(request)
                body = await stack.enter_async_context(
                    self._bodies.of(request, MAX_BODY_BYTES, session.address)
                )
            try:
                written = await self._writer.update(session, resource_type, body, record_id, version)
            except MeshError as err:
                if version and err.code == code_pb2.CODE_CONFLICT and err.path == _VERSION_PATH:
                    raise web.HTTPPreconditionFailed from err
                raise
            return self._answer(request, written)

    def _type(self, request: web.Request) -> str:
        resource_type = request.match_info["type"]
        if resource_type not in self._types:
            raise MeshError(
                code_pb2.CODE_NOT_FOUND,
                "this is not a FHIR R4 resource type that names a patient: others cannot be written here",
            )
        check_is_json(request)
        return resource_type

    def _answer(self, request: web.Request, written: Written) -> web.Response:
        place = self._origins.url(f"/fhir/{request.match_info['type']}/{written.record_id}")
        headers = {
            "Content-Type": CONTENT_TYPE,
            "ETag": f'W/"{written.version}"',
            "Location": f"{place}/_history/{written.version}",
            TRANSACTION_HEADER: written.receipt.tx_id,
            COMMAND_HEADER: written.receipt.command_id,
            BLOCK_HEADER: str(written.receipt.block),
        }
        status = 201 if written.version == 1 else 200
        body = written.content if wants_representation(request) else b""
        return web.Response(status=status, body=body, headers=headers)


def check_is_json(request: web.Request) -> None:
    """Raises HTTPUnsupportedMediaType for a body that is said to be something else than JSON in UTF-8."""
    if request.content_type not in _TYPES or (request.charset or "utf-8").lower() != "utf-8":
        raise web.HTTPUnsupportedMediaType


def wants_representation(request: web.Request) -> bool:
    """Whether the answer shall bring the resources as they were committed."""
    return "return=representation" in request.headers.get("Prefer", "")


def _version(request: web.Request) -> int:
    """The version that an update asks for; 0: whichever is next."""
    match, none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if match is None and none_match is None:
        return 0
    if match is None and none_match == "*":
        return 1
    found = _ETAG.fullmatch(match or "")
    if found is None or none_match is not None:
        raise MeshError(
            code_pb2.CODE_INVALID,
            'an update takes `If-Match: W/"<version>"` or `If-None-Match: *`, or neither',
        )
    return int(found[1]) + 1
