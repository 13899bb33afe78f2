"""Who signed the commands of a group, by the identities of the channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol.channel import Channel
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.domain import group as rules
from services.gateway.domain.group import Parsed
from services.gateway.domain.refusal import Refused

SIGNER_SECONDS = 5.0
# Whether a patient is registered at all, which does not change; chaincode looks again at all of it.
_PATIENT_SECONDS = 6 * 60 * 60.0

Known = Mapping[str, IdentityDocument | None]
"""The identities that a check needs, by address; None for one that is not registered."""


class Authenticator:
    """Checks signers, delegators and patients. Raises Refused, blaming a command."""

    def __init__(self, identities: IdentityCache, channel: Channel) -> None:
        self._identities = identities
        self._channel = channel

    async def known(self, groups: Iterable[Sequence[Parsed]]) -> Known:
        """Everybody whom these groups name, looked up together. Raises MeshError.

        What is no address is not asked about: it is refused by its form, and shall harm no neighbour.
        """
        acting: set[str] = set()
        patients: set[str] = set()
        for commands in groups:
            for parsed in commands:
                if parsed.registration is None:
                    acting.add(parsed.signed.signer)
                if parsed.signed.HasField("delegation"):
                    acting.update(_delegators(parsed))
                if (put := parsed.put) is not None:
                    patients.add(put.patient)
        known = await self._identities.several(_addresses(patients), _PATIENT_SECONDS)
        return known | await self._identities.several(_addresses(acting), SIGNER_SECONDS)

    def check_signatures(self, commands: tuple[Parsed, ...], known: Known) -> None:
        """That each command is its signer's, within a delegation of the delegator's own: what follows may be
        told to whoever sent it, and the channel be asked about it, which keeps what it is asked."""
        for index, parsed in enumerate(commands):
            try:
                rules.check_signature(parsed, known.get(parsed.signed.signer))
                if (delegation := rules.delegation_of(parsed)) is not None:
                    delegator = known.get(delegation.delegator)
                    rules.check_delegation(parsed, delegation, delegator, self._channel)
            except Refused as why:
                raise why.at(index) from why

    def check_standing(self, commands: tuple[Parsed, ...], known: Known, now_ms: int) -> None:
        """Times, that signers and delegators may act now, and that the patients are there."""
        for index, parsed in enumerate(commands):
            try:
                rules.check_times(parsed, now_ms)
                rules.check_active(parsed, known.get(parsed.signed.signer))
                rules.check_proposer(parsed, known.get(parsed.signed.signer))
                if (delegation := rules.delegation_of(parsed)) is not None:
                    rules.check_delegation_standing(delegation, known.get(delegation.delegator), now_ms)
                _check_patient(parsed, known)
            except Refused as why:
                raise why.at(index) from why


def _addresses(named: Iterable[str]) -> list[str]:
    return [one for one in named if addresses.is_address(one)]


def _delegators(parsed: Parsed) -> set[str]:
    try:
        delegation = rules.delegation_of(parsed)
    except Refused:
        return set()  # said where it is checked
    return {delegation.delegator} if delegation is not None else set()


def _check_patient(parsed: Parsed, known: Known) -> None:
    put = parsed.put
    if put is None:
        return
    patient = known.get(put.patient)
    if patient is None or patient.role != Role.ROLE_PATIENT:
        raise Refused(
            code_pb2.CODE_NOT_FOUND,
            "no patient is registered under this address: check it, or have the patient register",
            "body.put_record.patient",
        )
