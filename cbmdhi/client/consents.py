"""The patient's consents: who may see what, for what, until when."""

from __future__ import annotations

from collections.abc import Sequence

from cbmdhi.client.commands import submit
from cbmdhi.client.connection import Connection
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import ConsentDocument
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol.ids import uuid7


def provision(
    *,
    grantee: str = "",
    role: pb.Role = pb.ROLE_UNSPECIFIED,
    msp: str = "",
    purposes: Sequence[str] = ("TREAT",),
    categories: Sequence[str] = (),
    actions: Sequence[str] = (),
    record_ids: Sequence[str] = (),
    valid_until_ms: int = 0,
    deny: bool = False,
) -> pb.Provision:
    """One line of a consent. Empty `categories` or `record_ids` mean all; no grantee means anyone."""
    named = bool(grantee or role or msp)
    return pb.Provision(
        effect=pb.EFFECT_DENY if deny else pb.EFFECT_PERMIT,
        grantees=[pb.Grantee(address=grantee, role=role, msp=msp)] if named else [],
        purposes=purposes,
        categories=categories,
        actions=actions,
        record_ids=record_ids,
        valid_until_ms=valid_until_ms,
    )


def consent(patient: str, *provisions: pb.Provision, consent_id: str = "") -> pb.Consent:
    """The body of a consent; the same `consent_id` replaces an earlier one."""
    return pb.Consent(consent_id=consent_id or uuid7(), patient=patient, provisions=provisions)


class Consents:
    """Grant, revoke, list: always by the patient in person."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def grant(
        self, *provisions: pb.Provision, consent_id: str = ""
    ) -> tuple[str, gateway_pb2.RecordReceipt]:
        """Give a consent. Gives its id and the receipt."""
        body = consent(self._connection.wallet.address, *provisions, consent_id=consent_id)
        return body.consent_id, (await submit(self._connection, body))[0]

    async def revoke(self, consent_id: str) -> gateway_pb2.RecordReceipt:
        """Take a consent back. The next reading under it is refused."""
        body = pb.RevokeConsent(consent_id=consent_id, patient=self._connection.wallet.address)
        return (await submit(self._connection, body))[0]

    async def list(self) -> ConsentDocument:
        """The consents in force."""
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        return (await self._connection.call(stub.ListConsents, gateway_pb2.ListConsentsRequest())).consents
