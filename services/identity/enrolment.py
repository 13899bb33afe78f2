"""Enrolment: certificates of the member's Fabric CA for keys that never leave their wallet.

An invited identity sends the secret that its administrator handed over. For a patient the service makes a
secret and uses it at once; nobody sees it. In both cases only the holder of the key can use the certificate.
"""

from __future__ import annotations

import asyncio
import secrets

from cryptography import x509

from cbmdhi.command.v1 import code_pb2
from services.identity.domain import certificate, roles
from services.identity.domain.csr import CertificateRequest
from services.identity.fabric_ca import UNLIMITED, Enrolment, FabricCa
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations

ENROLMENTS_PER_INVITATION = 10
"""The same secret serves when an answer was lost and when a certificate is renewed."""
_SECRET_BYTES = 24
_STRIPES = 64
_ATTEMPTS = 3


class Enroller:
    """Invites and enrols. Raises MeshError."""

    def __init__(self, ca: FabricCa, revocations: Revocations, msp_id: str) -> None:
        self._ca = ca
        self._revocations = revocations
        self._msp_id = msp_id
        # One enrolment of a patient at a time: a second would replace the secret that the first is using.
        self._stripes = [asyncio.Lock() for _ in range(_STRIPES)]

    async def invite(self, address: str, role: str) -> str:
        """A secret with which the address enrols in that role. It replaces an earlier one."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        await self._register(address, role, secret, ENROLMENTS_PER_INVITATION)
        return secret

    async def enrol_invited(self, request: CertificateRequest, role: str, secret: str) -> Enrolment:
        """Enrol with the secret of an invitation."""
        self._revocations.check(self._msp_id, request.address)
        enrolled = await self._ca.enrol(request.address, secret, request.pem)
        _check_issued(enrolled, request, role)
        return enrolled

    async def enrol_patient(self, request: CertificateRequest) -> Enrolment:
        """Register if necessary, and enrol with a secret that nobody sees."""
        self._revocations.check(self._msp_id, request.address)
        async with self._stripes[hash(request.address) % _STRIPES]:
            attempt = 1
            while True:
                secret = secrets.token_urlsafe(_SECRET_BYTES)
                await self._register(request.address, roles.PATIENT, secret, UNLIMITED)
                try:
                    enrolled = await self._ca.enrol(request.address, secret, request.pem)
                except MeshError as error:
                    # Another replica enrolled the same key at the same moment and replaced the secret.
                    if error.code != code_pb2.CODE_UNAUTHENTICATED or attempt == _ATTEMPTS:
                        raise
                    attempt += 1
                else:
                    _check_issued(enrolled, request, roles.PATIENT)
                    return enrolled

    async def _register(self, address: str, role: str, secret: str, enrolments: int) -> None:
        """Make the id with this secret, or set its secret. CONFLICT when it exists with another role."""
        try:
            await self._ca.register(address, role, secret, enrolments)
        except MeshError as error:
            if error.code != code_pb2.CODE_CONFLICT:
                raise
        else:
            return
        known = await self._ca.find(address)
        if known is None or known.role != role:
            raise MeshError.conflict(
                "this address is known to the Fabric CA in another role; use that role, or a new key", "role"
            )
        # The CA counts enrolments over all secrets of an id, so the limit grows with a new secret.
        more = (
            UNLIMITED
            if UNLIMITED in (enrolments, known.max_enrolments)
            else known.max_enrolments + enrolments
        )
        await self._ca.replace_secret(address, secret, more)


def _check_issued(enrolled: Enrolment, request: CertificateRequest, role: str) -> None:
    """Check that the channel would accept the certificate."""
    try:
        issued = x509.load_pem_x509_certificate(enrolled.certificate_pem.encode())
    except ValueError as error:
        raise MeshError.internal("the Fabric CA gave no certificate; its operator checks its logs") from error
    if certificate.role_of(issued) != role:
        raise MeshError.invalid(
            "the invitation is for another role; enrol in that one, or ask for a new one", "role"
        )
    try:
        certificate.check(issued, address=request.address, spki=request.spki, roots_pem=enrolled.chain_pem)
    except certificate.NotThatCertificate as error:
        raise MeshError.internal(f"the Fabric CA gave another certificate than asked for: {error}") from error
