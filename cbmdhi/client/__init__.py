"""The client of the mesh: what an application or an integration engine uses.

    async with Client(Wallet.load("wallets/mercy-engine")) as engine:
        written = await engine.records.put(NewRecord.of(patient, observation))
        print(written.tx_id, written.cid)

What goes wrong is raised, as `cbmdhi.errors` draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType

from google.protobuf.message import Message

from cbmdhi.client.connection import Connection
from cbmdhi.client.consents import Consents
from cbmdhi.client.emergency import Emergency
from cbmdhi.client.inbox import Inbox
from cbmdhi.client.outbox import Kept, Outbox, Resends
from cbmdhi.client.records import Records
from cbmdhi.client.registration import Registration
from cbmdhi.client.rest import FhirSession
from cbmdhi.client.trail import Trail
from cbmdhi.errors import MeshError, Misuse
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.wallet import Wallet

__all__ = ["Client"]


class Client:
    """One wallet at one member's gateway. Any member can serve any wallet.

    member            name or MSP id; by default the wallet's home. Raises Misuse when there is no such member
    deadline_seconds  for each call, retries included

    Logs in when it is needed and goes on for days: tokens are renewed by the wallet's signature before they
    end, streams go over to the new ones. To be closed: by `async with`, or `connection.close()`.

    registration  enrol, register, invite, review, suspend
    records       write, read, list; break the glass
    consents      grant, revoke, list
    inbox         what happened
    trail         who did what, and what proves it
    emergency     open a record while no majority of the members is to be had
    outbox        what was signed and is not known to be done

        async with Client(Wallet.load("wallets/anna"), "lakeside") as anna:
            await anna.consents.grant(provision(role=pb.ROLE_CLINICIAN, msp="LakesideMSP"))
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
        self.outbox = Outbox(wallet.folder, wallet.address)
        self.connection.on_cut = self.outbox.keep_cut

    async def resend(self, what: MeshError | Message | Kept | str | Iterable[Message]) -> list[Receipt]:
        """Send again what was signed, as it was signed: it is done at most once, however often it is sent.

        what  an error (NotSent, UnknownOutcome, Unproven, NotAllWritten), what its `again` holds, or what the
              outbox keeps (or the command id under which it does): that goes when it is proven

        Gives the receipts, proven by the members' peers. Raises NotCommitted when the channel refused one,
        also because it has expired meanwhile; NotSent or UnknownOutcome with what is still open; Misuse for
        what cannot be sent again, such as a reading.

            except UnknownOutcome as error:
                async with Client(wallet, "lakeside") as elsewhere:
                    [receipt] = await elsewhere.resend(error)
        """
        return await Resends(self.connection, self.registration, self.outbox)(what)

    def fhir(
        self,
        *,
        actions: Sequence[str] = ("read", "history"),
        purposes: Sequence[str] = ("TREAT",),
        patients: Sequence[str] = (),
    ) -> FhirSession:
        """A session of a plain FHIR application over REST, within a delegation; to be entered.

        actions   of `read`, `history`, `write`
        purposes  of use
        patients  addresses of those whom it is about, at most 64; none: all whom the wallet may serve

            async with clinician.fhir(patients=[patient]) as session:
                observation = await session.read("Observation", record_id)
        """
        return FhirSession(self.wallet, self.member, actions=actions, purposes=purposes, patients=patients)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.connection.close()
