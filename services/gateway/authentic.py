"""Who signed the commands of a group, by the identities of the channel."""

from __future__ import annotations

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from services.gateway.domain import group as rules
from services.gateway.domain.group import Parsed
from services.gateway.domain.refusal import Refused
from services.gateway.identities import Identities

SIGNER_SECONDS = 5.0
_PATIENT_SECONDS = 60.0


class Authenticator:
    """Checks signers, delegators and patients. Raises Refused, blaming a command, and MeshError."""

    def __init__(self, identities: Identities, channel: str) -> None:
        self._identities = identities
        self._channel = channel

    async def check_signatures(self, commands: tuple[Parsed, ...]) -> None:
        """That each command is its signer's: what follows may be told to whoever sent it."""
        for index, parsed in enumerate(commands):
            signer = None if parsed.registration else await self._signer(parsed.signed.signer)
            try:
                rules.check_signature(parsed, signer)
            except Refused as why:
                raise why.at(index) from why

    async def check_standing(self, commands: tuple[Parsed, ...], now_ms: int) -> None:
        """Times, that signers and delegators may act now, and that the patients are there."""
        for index, parsed in enumerate(commands):
            try:
                rules.check_times(parsed, now_ms)
                signer = None if parsed.registration else await self._signer(parsed.signed.signer)
                rules.check_active(parsed, signer)
                delegation = rules.delegation_of(parsed)
                if delegation is not None:
                    delegator = await self._signer(delegation.delegator)
                    rules.check_delegation(parsed, delegation, delegator, self._channel, now_ms)
                await self._check_patient(parsed)
            except Refused as why:
                raise why.at(index) from why

    async def _signer(self, address: str) -> rules.IdentityDocument | None:
        return await self._identities.get(address, SIGNER_SECONDS)

    async def _check_patient(self, parsed: Parsed) -> None:
        put = parsed.put
        if put is None:
            return
        patient = await self._identities.get(put.patient, _PATIENT_SECONDS)
        if patient is None or patient.role != Role.ROLE_PATIENT:
            raise Refused(
                code_pb2.CODE_NOT_FOUND,
                "no patient is registered under this address: check it, or have the patient register",
                "body.put_record.patient",
            )
