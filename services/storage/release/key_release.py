"""Release of data keys: unwrapped and sealed to the reader in one step, on a decision proven here.

Many are handled as one batch: shared lookups are made once, and each release succeeds or fails by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_ACTIVE, IdentityDocument, RecordVersion
from cbmdhi.protocol import envelope, hpke
from services.runtime.errors import MeshError, copied
from services.storage.channel.consents import Consents
from services.storage.channel.identity_cache import IdentityCache
from services.storage.domain.decision import ReadGrant
from services.storage.metrics import StorageMetrics
from services.storage.release.decision_proofs import DecisionProofs
from services.storage.release.release_log import ReleaseLog
from services.storage.release.writer_key_opener import WriterKeyOpener, WriterKeyRequest

K = TypeVar("K")
T = TypeVar("T")

_REFUSED = (
    code_pb2.CODE_FORBIDDEN,
    code_pb2.CODE_INACTIVE_SIGNER,
    code_pb2.CODE_NOT_FOUND,
    code_pb2.CODE_CONFLICT,
)
# How many keys are sealed before the event loop gets its turn: about 2 ms.
_TURN = 8

RELEASED_BEFORE = "the key was released on this decision already; sign a new Access to read it again"

DecisionRef = tuple[str, str]
"""A transaction id and the id of a command in it."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """A grant, the patient's custodians by MSP id, and the reader's HPKE key, as the own ledger has them."""

    grant: ReadGrant
    custodians: tuple[str, ...]
    reader_public_key: bytes

    @property
    def record(self) -> RecordVersion:
        """The version that is read."""
        return self.grant.record


class KeyRelease:
    """Releases keys as the writer of a record or as a custodian of its patient."""

    def __init__(
        self,
        decisions: DecisionProofs,
        identities: IdentityCache,
        writer_key_opener: WriterKeyOpener,
        consents: Consents,
        releases: ReleaseLog,
        metrics: StorageMetrics,
    ) -> None:
        self._decisions = decisions
        self._identities = identities
        self._writer_key_opener = writer_key_opener
        self._consents = consents
        self._releases = releases
        self._metrics = metrics

    async def entitlements(self, decided: Sequence[DecisionRef]) -> list[Entitlement | MeshError]:
        """Check decisions, and the status of readers and their devices, at most three seconds old.

        Gives an entitlement for each decision, in order, or why there is none: FORBIDDEN, INACTIVE_SIGNER
        (revoked at a CA), NOT_FOUND, UNAVAILABLE.
        """
        grants = await self._decisions.grants(decided)
        granted = [grant for grant in grants if isinstance(grant, ReadGrant)]
        people, custodians = await asyncio.gather(
            self._identities.people(who for grant in granted for who in (grant.reader, grant.actor)),
            self._identities.custodians(grant.patient for grant in granted),
        )
        entitled: list[Entitlement | MeshError] = []
        for grant in grants:
            try:
                given = _there(grant)
                _active(_there(people[given.actor]))
                reader = _active(_there(people[given.reader]))
                patient_custodians = _there(custodians[given.patient])
                entitled.append(Entitlement(given, patient_custodians, reader.hpke_public_key))
            except MeshError as err:
                entitled.append(err)
        return entitled

    async def release(self, tx_id: str, command_id: str, header: bytes) -> bytes:
        """The data key in an envelope's header, sealed to the reader. For another member's storage.

        Raises MeshError with the codes of `entitlements`, CONFLICT (released before), INTEGRITY.
        """
        (entitled,) = await self.entitlements([(tx_id, command_id)])
        if isinstance(entitled, MeshError):
            self._count(entitled)
            raise entitled
        return _there((await self.release_to({0: (entitled, header)}))[0])

    async def release_to(self, wanted: Mapping[K, tuple[Entitlement, bytes]]) -> dict[K, bytes | MeshError]:
        """The same for decisions that were checked here, each with the header of its envelope.

        A key is released once (else CONFLICT), and only if the decision would be the same now (else
        FORBIDDEN).
        """
        asked = {
            key: WriterKeyRequest(entitled.record, entitled.custodians)
            for key, (entitled, _) in wanted.items()
        }
        places = {key: one.place for key, one in asked.items()}
        keys, refused = await asyncio.gather(
            self._writer_key_opener.writer_keys(asked.values()),
            self._consents.refusals(entitled.grant for entitled, _ in wanted.values()),
        )
        released: dict[K, bytes | MeshError] = {}
        for number, (key, (entitled, header)) in enumerate(wanted.items(), 1):
            try:
                if why := refused.get(entitled.grant):
                    raise copied(why)
                released[key] = self.sealed(entitled, header, _there(keys[places[key]]))
            except MeshError as err:
                released[key] = err
            if number % _TURN == 0:
                await asyncio.sleep(0)
        await self._claim({key: wanted[key][0].grant for key in wanted}, released)
        return released

    async def _claim(self, grants: Mapping[K, ReadGrant], released: dict[K, bytes | MeshError]) -> None:
        """Write each release to the log before it leaves, and refuse what was released before."""
        sealed = [key for key, one in released.items() if isinstance(one, bytes)]
        first = await self._releases.claim([grants[key] for key in sealed]) if sealed else []
        for key, is_first in zip(sealed, first, strict=True):
            if not is_first:
                released[key] = MeshError.conflict(RELEASED_BEFORE)
        for one in released.values():
            if isinstance(one, MeshError):
                self._count(one)
            else:
                self._metrics.key_releases.labels("released").inc()

    def sealed(self, entitled: Entitlement, header: bytes, writer_key: bytes) -> bytes:
        """The data key in an envelope's header, sealed to the reader. The caller has checked the decision."""
        grant = entitled.grant
        binding = envelope.Binding(grant.patient, grant.record_id, grant.version)
        try:
            data_key = envelope.unwrap_data_key(header, writer_key, binding)
        except envelope.CannotOpen as exc:
            raise self._metrics.differed("envelope", "the envelope is not that of this record") from exc
        place = (grant.reader, grant.command_id, grant.record_id, str(grant.version))
        try:
            return hpke.seal(entitled.reader_public_key, data_key, hpke.DATA_KEY, *place)
        except ValueError as exc:
            raise MeshError.forbidden("nothing can be sealed to the reader's registered key") from exc

    def _count(self, err: MeshError) -> None:
        self._metrics.key_releases.labels("refused" if err.code in _REFUSED else "failed").inc()


def _there(found: T | MeshError) -> T:
    if isinstance(found, MeshError):
        raise copied(found)
    return found


def _active(reader: IdentityDocument) -> IdentityDocument:
    if reader.status != IDENTITY_STATUS_ACTIVE or len(reader.hpke_public_key) != hpke.PUBLIC_KEY_BYTES:
        raise MeshError.forbidden("the reader is not active any more; have the identity reinstated")
    return reader
