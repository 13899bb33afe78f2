"""Identities on the channel, cached for as long as each use allows."""

from __future__ import annotations

from collections.abc import Iterable

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import ROLE_PATIENT
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_ACTIVE, IdentityDocument
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import hpke
from services.runtime.batched_lookup import BatchedLookup
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations
from services.runtime.telemetry import Metrics
from services.runtime.ttl_cache import TtlCache
from services.storage.channel.ledger import Ledger
from services.storage.domain.keys import Patient

_PATIENTS = 20_000
_PATIENT_SECONDS = 6 * 60 * 60.0
_PEOPLE = 10_000
_PERSON_SECONDS = 3.0


class IdentityCache:
    """`async with IdentityCache(source, revocations, metrics)`.

    An active patient is cached for six hours. The registration certifies the record key and the custodians,
    so they never change. Whether the patient is still active is checked by the chaincode for every record;
    what was sealed for a patient who is not is discarded.
    A reader is cached for three seconds, since a suspension must count within five. Somebody whose
    certificate the home member's CA has revoked is refused at once, even while the channel says "active".
    An identity that was not found is not cached.
    """

    def __init__(self, source: Ledger, revocations: Revocations, metrics: Metrics) -> None:
        self._source = source
        self._revocations = revocations
        self._patients: TtlCache[str, Patient] = TtlCache(_PATIENTS, seconds=_PATIENT_SECONDS, spread=True)
        self._custodians: TtlCache[str, tuple[str, ...]] = TtlCache(
            _PATIENTS, seconds=_PATIENT_SECONDS, spread=True
        )
        people: TtlCache[str, IdentityDocument] = TtlCache(_PEOPLE, seconds=_PERSON_SECONDS, spread=True)
        self._people_lookup = BatchedLookup(source.identities, people, metrics, "identities")

    async def __aenter__(self) -> IdentityCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._people_lookup.close()

    async def patients(self, addresses: Iterable[str]) -> dict[str, Patient | MeshError]:
        """The active patient of each address, or why nothing is sealed for it. Raises MeshError."""
        found: dict[str, Patient | MeshError] = {}
        unknown: list[str] = []
        for address in addresses:
            patient = self._patients.get(address)
            if patient is None:
                unknown.append(address)
            else:
                found[address] = patient
        if not unknown:
            return found
        for address, document in zip(unknown, await self._source.identities(unknown), strict=True):
            found[address] = patient = _active_patient(document)
            if isinstance(patient, Patient):
                self._patients.put(address, patient)
        return found

    async def people(self, addresses: Iterable[str]) -> dict[str, IdentityDocument | MeshError]:
        """Identities at most three seconds old, or why there is none.

        Errors: NOT_FOUND, INTEGRITY, INACTIVE_SIGNER (revoked), UNAVAILABLE.
        """
        found = await self._people_lookup.many(addresses)
        return {address: self._unless_revoked(one) for address, one in found.items()}

    async def revoked(self, signers: Iterable[str]) -> dict[str, MeshError]:
        """The signers who are revoked, or whose status is not known, each with the reason.

        Nobody is looked up while every member's revocation list is known and names none of them.
        """
        # Most batches have one signer: an engine.
        doubted = {
            signer
            for signer in set(signers)
            if addresses.is_address(signer) and self._revocations.doubts(signer)
        }
        people = await self.people(doubted) if doubted else {}
        return {address: one for address, one in people.items() if isinstance(one, MeshError)}

    def _unless_revoked(self, one: IdentityDocument | MeshError) -> IdentityDocument | MeshError:
        if isinstance(one, MeshError):
            return one
        try:
            self._revocations.check(one.home_msp, one.address)
        except MeshError as error:
            return error
        return one

    async def custodians(self, patients: Iterable[str]) -> dict[str, tuple[str, ...] | MeshError]:
        """The MSP ids of the custodians that each patient registered, or why they are not known.

        The registration certifies them, so they never change: they are cached for six hours.
        """
        found: dict[str, tuple[str, ...] | MeshError] = {}
        unknown: list[str] = []
        for patient in dict.fromkeys(patients):
            sealed_for = self._patients.get(patient)
            known = sealed_for.custodians if sealed_for is not None else self._custodians.get(patient)
            if known is None:
                unknown.append(patient)
            else:
                found[patient] = known
        for patient, document in (await self._people_lookup.many(unknown)).items():
            if isinstance(document, MeshError):
                found[patient] = document
            else:
                found[patient] = custodians = _custodians(document)
                self._custodians.put(patient, custodians)
        return found


def _active_patient(document: IdentityDocument | MeshError) -> Patient | MeshError:
    if isinstance(document, MeshError) and document.code != code_pb2.CODE_NOT_FOUND:
        return document
    if (
        isinstance(document, MeshError)
        or document.role != ROLE_PATIENT
        or document.status != IDENTITY_STATUS_ACTIVE
        or len(document.hpke_public_key) != hpke.PUBLIC_KEY_BYTES
    ):
        return MeshError.not_found("no active patient is registered under that address; register first")
    return Patient(document.address, document.hpke_public_key, _custodians(document))


def _custodians(document: IdentityDocument) -> tuple[str, ...]:
    return tuple(custodian.msp for custodian in document.custodians)
