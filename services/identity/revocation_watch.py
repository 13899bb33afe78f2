"""Follows the revocations of the own Fabric CA. The last list stays known while the CA is unavailable."""

from __future__ import annotations

import asyncio

import structlog

from cbmdhi.protocol import certificates
from cbmdhi.protocol.revocation import TooLong
from services.identity.fabric_ca import FabricCa
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations

_log = structlog.get_logger()


class RevocationWatch:
    """Keeps `revocations` up to date. `CaWatch` reports when the CA is unavailable."""

    def __init__(self, ca: FabricCa, revocations: Revocations, *, msp_id: str, every_seconds: float) -> None:
        self._ca = ca
        self._revocations = revocations
        self._msp_id = msp_id
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Follow until cancelled. The same fault of the list is logged once."""
        told = ""
        while True:
            try:
                await self.look()
                told = ""
            except MeshError:
                pass
            except certificates.Untrusted as error:
                if str(error) != told:
                    _log.error("revocations.not_heard", member=self._msp_id, reason=str(error))
                told = str(error)
            await asyncio.sleep(self._every_seconds)

    async def look(self) -> None:
        """Ask once. Raises MeshError, and Untrusted when the channel does not know this CA."""
        crl = await self._ca.revocation_list()
        try:
            await self._revocations.offer(self._msp_id, crl, ())
        except TooLong:
            raise
        except certificates.Untrusted:
            # The list has changed.
            await self._revocations.offer(self._msp_id, crl, await self._ca.revoked_certificates())
