"""Two hospitals' storage with everything real but Kubo, the ledger and the wire between them.

Proofs are real too: blocks signed by organisations made in memory (`tests.support.fakes.fabric_blocks`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from cbmdhi.command.v1.command_pb2 import ROLE_CLINICIAN, ROLE_PATIENT
from cbmdhi.command.v1.state_pb2 import (
    MemberDocument,
)
from cbmdhi.protocol import hpke, revocation, signature
from services.runtime.clock import now_ms
from services.runtime.revocations import Revocations
from services.runtime.sqlite import Database
from services.storage.domain.batch import PlainRecord
from services.storage.schema import MIGRATIONS
from services.storage.sealing.sealer import Sealed
from tests.support.fakes.committed_channel import LAKESIDE, MERCY, Channel, Person
from tests.support.fakes.fabric_ca import Root
from tests.support.fakes.storage_member import FakeKubo, Hospital
from tests.support.revoking import der, revocation_list


class World:
    """Mercy and lakeside."""

    def __init__(self, folder: Path) -> None:
        self.channel = Channel()
        self.hospitals: dict[str, Hospital] = {}
        self.cas = {msp: Root.new(f"ca of {msp}") for msp in (MERCY, LAKESIDE)}
        self._folder = folder
        self._stack = AsyncExitStack()
        self._keys = {msp: (hpke.generate(), signature.new_private_key()) for msp in (MERCY, LAKESIDE)}

    async def __aenter__(self) -> World:
        for msp, ((_, vault_public), signing) in self._keys.items():
            self.channel.members[msp] = MemberDocument(
                msp=msp,
                vault_public_key=vault_public,
                storage_signing_key=signature.spki(signing.public_key()),
            )
            await self.start(msp, FakeKubo())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self, msp: str, kubo: FakeKubo) -> Hospital:
        """A member's storage process over what is on its disk and in its Kubo node."""
        (vault_private, _), signing = self._keys[msp]
        file = self._folder / f"{msp}.db"
        database = await self._stack.enter_async_context(Database(file, MIGRATIONS))
        self.hospitals[msp] = Hospital(
            msp,
            self.channel,
            self.hospitals,
            database,
            file,
            vault_private,
            kubo,
            signing,
            self._revocations(),
        )
        return self.hospitals[msp]

    def _revocations(self) -> Revocations:
        """What a member's storage is told: each CA's list, that names nobody."""
        told = Revocations({msp: ca.pem for msp, ca in self.cas.items()})
        for msp, ca in self.cas.items():
            crl = revocation_list(ca.certificate.subject, ca.key)
            told.keep(msp, revocation.verify(crl, (), ca.pem))
        return told

    def revoke(self, person: Person, *told: Hospital) -> None:
        """At the CA of mercy, where everybody is at home, and nowhere else; these members heard of it."""
        ca = self.cas[MERCY]
        certificate = ca.issue(person.address, person.signer.private_key.public_key())
        crl = revocation_list(ca.certificate.subject, ca.key, [certificate])
        for hospital in told:
            hospital.revocations.keep(MERCY, revocation.verify(crl, der(certificate), ca.pem))

    @property
    def mercy(self) -> Hospital:
        return self.hospitals[MERCY]

    @property
    def lakeside(self) -> Hospital:
        return self.hospitals[LAKESIDE]

    def patient(self, *custodians: str) -> Person:
        return self.channel.register(ROLE_PATIENT, custodians or (MERCY, LAKESIDE))

    def clinician(self) -> Person:
        return self.channel.register(ROLE_CLINICIAN)

    async def settle(self, seconds: float = 6.0, *, channel_seconds: float | None = None) -> None:
        """Time passes, on the channel too if nothing else is said, and each member looks at what it holds."""
        passed_ms = int(1000 * (seconds if channel_seconds is None else channel_seconds))
        self.channel.time_ms = (self.channel.time_ms or now_ms()) + passed_ms
        for hospital in self.hospitals.values():
            hospital.pass_time(seconds)
            await hospital.settler.settle_due()

    async def write(self, *items: PlainRecord) -> Sealed:
        """Seal at mercy and commit."""
        sealed = await self.mercy.sealing.seal(items)
        self.channel.commit(items, sealed)
        return sealed
