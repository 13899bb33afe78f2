"""A member's identity service, as far as whom the Fabric CAs revoked is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from services.runtime.callers import require_peer
from services.runtime.config import ServiceConfig
from services.runtime.lifecycle import Lifecycle
from services.runtime.server import GrpcServer
from tests.support.fakes.fabric_blocks import CHANNEL
from tests.support.fakes.fabric_ca import Root
from tests.support.pki import Consortium
from tests.support.revoking import revocation_list
from tests.support.waiting import free_port


class _IdentityConfig(ServiceConfig):
    service_name = "identity"


class IdentityStandIn(identity_pb2_grpc.RevocationServiceServicer):
    """Tells storage that the CAs (by MSP id) have revoked nobody."""

    def __init__(self, cas: Mapping[str, Root], consortium: Consortium, organisation: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._cas = cas
        config = _IdentityConfig(
            organisation=organisation,
            msp_id=f"{organisation.capitalize()}MSP",
            channel=CHANNEL,
            listen_address=self.address,
            metrics_address="127.0.0.1:0",
            tls=consortium.tls("identity", organisation),
        )
        self._server = GrpcServer(config, Lifecycle(config))
        self._server.add(identity_pb2_grpc.add_RevocationServiceServicer_to_server, self)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    def roots(self, folder: Path) -> list[dict[str, str]]:
        """`client_ca` of a service's configuration."""
        for msp_id, ca in self._cas.items():
            (folder / f"{msp_id}.pem").write_text(ca.pem, encoding="ascii")
        return [{"msp_id": msp_id, "ca_file": str(folder / f"{msp_id}.pem")} for msp_id in self._cas]

    async def GetRevocations(self, request: Any, context: Any) -> identity_pb2.GetRevocationsResponse:
        require_peer(context, services={"storage"})
        return identity_pb2.GetRevocationsResponse(
            lists=[
                identity_pb2.RevocationList(
                    msp_id=msp_id, crl=revocation_list(ca.certificate.subject, ca.key)
                )
                for msp_id, ca in self._cas.items()
            ]
        )
