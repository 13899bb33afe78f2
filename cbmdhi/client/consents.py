"""The patient's consents: who may see what, for what, until when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cbmdhi.client.commands import submit
from cbmdhi.client.connection import Connection
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import ConsentDocument
from cbmdhi.errors import NotCommitted
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol.ids import uuid7

# Another device may win that often in a row.
_ATTEMPTS = 5


def provision(
    *,
    grantee: str = "",
    role: pb.Role = pb.ROLE_UNSPECIFIED,
    msp: str = "",
    purposes: Sequence[str] | None = None,
    categories: Sequence[str] = (),
    actions: Sequence[str] = (),
    record_ids: Sequence[str] = (),
    valid_until_ms: int = 0,
    deny: bool = False,
) -> pb.Provision:
    """One line of a consent. Empty `categories` or `record_ids` mean all; no grantee means anyone.

    A permit is for treatment and for looking (read, search, history) unless `purposes` and `actions` say
    otherwise; a deny that names no purposes and no actions denies everything.

    valid_until_ms  Unix milliseconds; 0: until it is revoked

        provision(role=pb.ROLE_CLINICIAN, msp="LakesideMSP", categories=["observations"])
    """
    named = bool(grantee or role or msp)
    if purposes is None:
        purposes = () if deny else ("TREAT",)
    return pb.Provision(
        effect=pb.EFFECT_DENY if deny else pb.EFFECT_PERMIT,
        grantees=[pb.Grantee(address=grantee, role=role, msp=msp)] if named else [],
        purposes=purposes,
        categories=categories,
        actions=actions,
        record_ids=record_ids,
        valid_until_ms=valid_until_ms,
    )


def consent(patient: str, *provisions: pb.Provision, consent_id: str = "", follows: str = "") -> pb.Consent:
    """The body of a consent; the same `consent_id` replaces an earlier one.

    follows  `changed_by` of the consents that the patient has now; empty before the first
    """
    return pb.Consent(
        consent_id=consent_id or uuid7(), patient=patient, provisions=provisions, follows=follows
    )


class Consents:
    """Grant, revoke, list: always by the patient in person.

    A change names the consents that it follows, and the channel refuses it (CONFLICT) when they are no
    longer those: whoever carries it cannot keep it for later. Another device of the patient's may have
    changed something else meanwhile; then the change is signed again. When it changed the very consent that
    is meant, nothing is signed again by itself: NotCommitted, CONFLICT, and the person looks (`list`) and
    decides.

    What is returned as done is proven by the members' peers. Where it is not, Unproven: the gateway may have
    carried nothing, and what its `again` holds can be sent by another member's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()
        # What this client's last change left, for a peer that has not heard of it yet.
        self._left = ConsentDocument()

    async def grant(
        self, *provisions: pb.Provision, consent_id: str = ""
    ) -> tuple[str, gateway_pb2.RecordReceipt]:
        """Give a consent. Gives its id and the receipt. Raises as `submit_group` does.

        consent_id, _ = await anna.consents.grant(provision(grantee=clinician_address))
        """
        body = consent(self._connection.wallet.address, *provisions, consent_id=consent_id)
        return body.consent_id, await self._change(body)

    async def revoke(self, consent_id: str) -> gateway_pb2.RecordReceipt:
        """Take a consent back. The next reading under it is refused, and its id is never given again.

        Raises as `submit_group` does.

            await anna.consents.revoke(consent_id)
        """
        body = pb.RevokeConsent(consent_id=consent_id, patient=self._connection.wallet.address)
        return await self._change(body)

    async def list(self) -> ConsentDocument:
        """The consents in force.

        for given in (await anna.consents.list()).consents:
            print(given.consent_id, given.provisions)
        """
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        return (await self._connection.call(stub.ListConsents, gateway_pb2.ListConsentsRequest())).consents

    async def latest(self) -> str:
        """What the next change follows: for a consent that goes into a group with something else."""
        return (await self._look()).changed_by

    async def _change(self, body: pb.Consent | pb.RevokeConsent) -> gateway_pb2.RecordReceipt:
        async with self._one_at_a_time:
            before, attempt = await self._look(), 1
            while True:
                body.follows = before.changed_by
                try:
                    receipt = (await submit(self._connection, body))[0]
                    break
                except NotCommitted as error:
                    if attempt == _ATTEMPTS or not _is_outrun(error):
                        raise
                    now = await self._look()
                    if now.changed_by == before.changed_by or _meant(now, body) != _meant(before, body):
                        raise
                    before, attempt = now, attempt + 1
            changed_by = receipt.receipt.command_id
            self._left = ConsentDocument(version=before.version + 1, changed_by=changed_by)
            return receipt

    async def _look(self) -> ConsentDocument:
        document = await self.list()
        if document.version < self._left.version:
            document.changed_by, document.version = self._left.changed_by, self._left.version
        return document


def _is_outrun(error: NotCommitted) -> bool:
    return error.code == code_pb2.CODE_CONFLICT and error.path.endswith(".follows")


def _meant(document: ConsentDocument, body: pb.Consent | pb.RevokeConsent) -> list[pb.Provision] | None:
    """What the consent of the body's id says; None when none is in force."""
    for given in document.consents:
        if given.consent_id == body.consent_id:
            return list(given.provisions)
    return None
