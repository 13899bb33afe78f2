"""Release of data keys: unwrapped and sealed to the reader in one step, on a decision proven here.

Many at once as one: what they have in common is looked up once, and each stands or fails alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_ACTIVE, IdentityDocument, RecordVersion
from cbmdhi.protocol import envelope, hpke
from services.runtime.errors import MeshError
from services.storage.channel.consents import Consents
from services.storage.channel.identity_cache import IdentityCache
from services.storage.domain.decision import ReadGrant
from services.storage.metrics import StorageMetrics
from services.storage.release.decision_proofs import DecisionProofs
from services.storage.release.release_log import ReleaseLog
from services.storage.release.writer_key_opener import Wanted, WriterKeyOpener

K = TypeVar("K")
T = TypeVar("T")

_REFUSED = (
    code_pb2.CODE_FORBIDDEN,
    code_pb2.CODE_INACTIVE_SIGNER,
    code_pb2.CODE_NOT_FOUND,
    code_pb2.CODE_CONFLICT,
)
# Sealed before everybody else has a turn: about 2 ms.
_TURN = 8

Decided = tuple[str, str]
"""A transaction and a command in it."""


@dataclass(frozen=True, slots=True)
class Entitled:
    """A grant with what the own ledger says of its patient's custodians and its reader."""

    grant: ReadGrant
    custodians: tuple[str, ...]
    reader_public_key: bytes

    @property
    def record(self) -> RecordVersion:
        """The version that is read."""
        return self.grant.record


class KeyRelease:
    """What this member releases as a record's writer or as a custodian of its patient."""

    def __init__(
        self,
        decisions: DecisionProofs,
        identities: IdentityCache,
        unwrapping: WriterKeyOpener,
        consents: Consents,
        releases: ReleaseLog,
        metrics: StorageMetrics,
    ) -> None:
        self._decisions = decisions
        self._identities = identities
        self._unwrapping = unwrapping
        self._consents = consents
        self._releases = releases
        self._metrics = metrics

    async def entitle(self, decided: Sequence[Decided]) -> list[Entitled | MeshError]:
        """Check decisions, and the standing of readers and their devices as of at most three seconds ago.

        In order. In a place that is not entitled stands why: FORBIDDEN, INACTIVE_SIGNER (revoked at a CA),
        NOT_FOUND, UNAVAILABLE.
        """
        grants = await self._decisions.grants(decided)
        granted = [grant for grant in grants if isinstance(grant, ReadGrant)]
        people, custodians = await asyncio.gather(
            self._identities.people(who for grant in granted for who in (grant.reader, grant.actor)),
            self._identities.custodians(grant.patient for grant in granted),
        )
        entitled: list[Entitled | MeshError] = []
        for grant in grants:
            try:
                given = _there(grant)
                _active(_there(people[given.actor]))
                reader = _active(_there(people[given.reader]))
                keepers = _there(custodians[given.patient])
                entitled.append(Entitled(given, keepers, reader.hpke_public_key))
            except MeshError as err:
                entitled.append(err)
        return entitled

    async def release(self, tx_id: str, command_id: str, header: bytes) -> bytes:
        """The data key in an envelope's header, sealed to the reader. For another member's storage.

        Raises MeshError as `entitle` says, CONFLICT (released before), INTEGRITY.
        """
        (entitled,) = await self.entitle([(tx_id, command_id)])
        if isinstance(entitled, MeshError):
            self._count(entitled)
            raise entitled
        return _there((await self.release_to({0: (entitled, header)}))[0])

    async def release_to(self, wanted: Mapping[K, tuple[Entitled, bytes]]) -> dict[K, bytes | MeshError]:
        """The same for decisions that were checked here, with the headers of their envelopes.

        Each is released once, and only if it would be decided so now: CONFLICT and FORBIDDEN otherwise.
        """
        asked = {key: Wanted(entitled.record, entitled.custodians) for key, (entitled, _) in wanted.items()}
        places = {key: one.place for key, one in asked.items()}
        keys, refused = await asyncio.gather(
            self._unwrapping.writer_keys(asked.values()),
            self._consents.refusals(entitled.grant for entitled, _ in wanted.values()),
        )
        released: dict[K, bytes | MeshError] = {}
        for number, (key, (entitled, header)) in enumerate(wanted.items(), 1):
            try:
                if why := refused.get(entitled.grant):
                    raise _again(why)
                released[key] = self.sealed(entitled, header, _there(keys[places[key]]))
            except MeshError as err:
                released[key] = err
            if number % _TURN == 0:
                await asyncio.sleep(0)
        await self._claim({key: wanted[key][0].grant for key in wanted}, released)
        return released

    async def _claim(self, grants: Mapping[K, ReadGrant], released: dict[K, bytes | MeshError]) -> None:
        """Note each release before it leaves, and keep back what was released before."""
        sealed = [key for key, one in released.items() if isinstance(one, bytes)]
        first = await self._releases.claim([grants[key] for key in sealed]) if sealed else []
        for key, is_first in zip(sealed, first, strict=True):
            if not is_first:
                released[key] = MeshError(
                    code_pb2.CODE_CONFLICT,
                    "the key was released on this decision already; sign a new Access to read it again",
                )
        for one in released.values():
            if isinstance(one, MeshError):
                self._count(one)
            else:
                self._metrics.key_releases.labels("released").inc()

    def sealed(self, entitled: Entitled, header: bytes, writer_key: bytes) -> bytes:
        """The data key in an envelope's header, sealed to the reader: whoever calls has decided."""
        grant = entitled.grant
        binding = envelope.Binding(grant.patient, grant.record_id, grant.version)
        try:
            data_key = envelope.unwrap_data_key(header, writer_key, binding)
        except envelope.CannotOpen as exc:
            self._metrics.integrity_failures.labels("envelope").inc()
            raise MeshError(code_pb2.CODE_INTEGRITY, "the envelope is not that of this record") from exc
        place = (grant.reader, grant.command_id, grant.record_id, str(grant.version))
        try:
            return hpke.seal(entitled.reader_public_key, data_key, hpke.DATA_KEY, *place)
        except ValueError as exc:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN, "nothing can be sealed to the reader's registered key"
            ) from exc

    def _count(self, err: MeshError) -> None:
        self._metrics.key_releases.labels("refused" if err.code in _REFUSED else "failed").inc()


def _there(found: T | MeshError) -> T:
    if isinstance(found, MeshError):
        raise _again(found)
    return found


def _again(err: MeshError) -> MeshError:
    """One of its own for each place: raised, an exception takes on where it was raised."""
    return MeshError(err.code, err.reason, err.path, err.retry_after_ms)


def _active(reader: IdentityDocument) -> IdentityDocument:
    if reader.status != IDENTITY_STATUS_ACTIVE or len(reader.hpke_public_key) != hpke.PUBLIC_KEY_BYTES:
        raise MeshError(
            code_pb2.CODE_FORBIDDEN, "the reader is not active any more; have the identity reinstated"
        )
    return reader
