"""GET /fhir/…: reads of FHIR R4 (http://hl7.org/fhir/R4/http.html#read, #vread)."""

from __future__ import annotations

import re
from collections.abc import Set
from datetime import UTC, datetime
from email.utils import format_datetime

import orjson
from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import categories, ids
from services.gateway.domain.origin import Origins
from services.gateway.fhir.reader import FhirReader
from services.gateway.rest.auth import Authentication
from services.gateway.rest.capability import PURPOSE_HEADER, capability_statement
from services.runtime.errors import MeshError

CONTENT_TYPE = "application/fhir+json"
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class FhirRoutes:
    """read, vread and metadata. `id` is the record id; no search yet."""

    def __init__(
        self,
        reader: FhirReader,
        authentication: Authentication,
        resource_types: Set[str],
        writable_types: Set[str],
        origins: Origins,
    ) -> None:
        self._reader = reader
        self._authentication = authentication
        self._types = resource_types
        self._capabilities = orjson.dumps(
            capability_statement(resource_types, writable_types, origins.url("/fhir"))
        )

    def routes(self) -> list[web.RouteDef]:
        """What to add to the application. HEAD is not offered: a read is an access, body or not."""
        return [
            web.get("/fhir/metadata", self.metadata, name="metadata", allow_head=False),
            web.get("/fhir/{type}/{id}", self.read, name="read", allow_head=False),
            web.get("/fhir/{type}/{id}/_history/{version}", self.read, name="vread", allow_head=False),
        ]

    async def metadata(self, _: web.Request) -> web.Response:
        """What this server can do."""
        return web.Response(body=self._capabilities, headers={"Content-Type": CONTENT_TYPE})

    async def read(self, request: web.Request) -> web.Response:
        """One version, as its author wrote it."""
        session = await self._authentication.session(request)
        resource_type, record_id = request.match_info["type"], request.match_info["id"]
        version = request.match_info.get("version")
        if resource_type not in self._types:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "this is not a FHIR R4 resource type")
        if not ids.is_uuid7(record_id) or not (version is None or _VERSION.fullmatch(version)):
            raise MeshError(code_pb2.CODE_NOT_FOUND, "there is no such resource of this type here")
        purpose = request.headers.get(PURPOSE_HEADER, "TREAT")
        if purpose not in categories.PURPOSES:
            purposes = ", ".join(sorted(categories.PURPOSES))
            raise MeshError(code_pb2.CODE_INVALID, f"{PURPOSE_HEADER} is one of {purposes}")
        found = await self._reader.read(session, resource_type, record_id, int(version or 0), purpose)
        written = datetime.fromtimestamp(found.written_at_ms // 1000, UTC)
        headers = {
            "Content-Type": CONTENT_TYPE,
            "ETag": f'W/"{found.version}"',
            "Last-Modified": format_datetime(written, usegmt=True),
        }
        return web.Response(body=found.content, headers=headers)
