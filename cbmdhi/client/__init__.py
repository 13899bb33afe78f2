"""The client of the mesh: what an application or an integration engine uses.

async with Client(Wallet.load(folder)) as client:
    results = await client.records.put(patient, resources)
    content = (await client.records.read(patient, record_id, 1, purpose="TREAT")).content
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from cbmdhi.client.connection import Connection
from cbmdhi.client.consents import Consents
from cbmdhi.client.emergency import Emergency
from cbmdhi.client.inbox import Inbox
from cbmdhi.client.records import Records
from cbmdhi.client.registration import Registration
from cbmdhi.client.rest import FhirSession
from cbmdhi.client.trail import Trail
from cbmdhi.errors import Misuse
from cbmdhi.wallet import Wallet

__all__ = ["Client"]


class Client:
    """One wallet at one member's gateway.

    `member` is a name or MSP id; by default the wallet's home. Any member can serve any wallet. Raises Misuse
    when there is no such member.
    """

    def __init__(self, wallet: Wallet, member: str = "", deadline_seconds: float = 30.0) -> None:
        self.wallet = wallet
        try:
            self.member = wallet.consortium.member_named(member or wallet.member)
        except KeyError as error:
            raise Misuse(str(error.args[0])) from error
        self.connection = Connection(wallet, self.member, deadline_seconds)
        self.registration = Registration(self.connection)
        self.records = Records(self.connection)
        self.emergency = Emergency(self.connection)
        self.consents = Consents(self.connection)
        self.trail = Trail(self.connection)
        self.inbox = Inbox(self.connection)

    def fhir(
        self,
        *,
        actions: Sequence[str] = ("read", "history"),
        purposes: Sequence[str] = ("TREAT",),
        patients: Sequence[str] = (),
    ) -> FhirSession:
        """A session of a plain FHIR application over REST, within a delegation; to be entered.

        patients  addresses of those whom it is about, at most 64; none: all whom the wallet may serve
        """
        return FhirSession(self.wallet, self.member, actions=actions, purposes=purposes, patients=patients)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.connection.close()
