"""The patient's audit trail, receipts found again, and the proofs that let them be checked."""

from __future__ import annotations

from cbmdhi.client.connection import Connection
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.ledger.v1.ledger_pb2 import CommittedAuditEntry, Evidence
from cbmdhi.protocol.evidence import Checked, People
from cbmdhi.protocol.proof import Trust


class Trail:
    """What was done or refused, and where that stands."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def audit(self) -> list[CommittedAuditEntry]:
        """Everything about the wallet's own data, oldest first.

        for one in await anna.trail.audit():
            print(one.entry.action, one.entry.signer, one.entry.purpose)
        """
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        found: list[CommittedAuditEntry] = []
        request = gateway_pb2.ListAuditRequest(page_size=500)
        while True:
            response = await self._connection.call(stub.ListAudit, request)
            found.extend(response.entries)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    async def receipt(self, command_id: str) -> gateway_pb2.RecordReceipt:
        """What became of an earlier command of this wallet, as the gateway says. Raises MeshError NOT_FOUND.

        told = await engine.trail.receipt(written.command_id)
        """
        stub = gateway_pb2_grpc.CommandServiceStub(self._connection.authenticated)
        request = gateway_pb2.GetReceiptRequest(command_id=command_id)
        return (await self._connection.call(stub.GetReceipt, request)).receipt

    async def evidence(self, command_id: str, signer: str = "") -> Evidence:
        """What the members' peers sign about a command that concerns the wallet: also one that was not
        registered yet, or is suspended. Raises NOT_FOUND."""
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        request = gateway_pb2.GetProofRequest(command_id=command_id, signer=signer)
        return (await self._connection.enrolled(stub.GetProof, request)).evidence

    async def checked(self, command_id: str, signer: str = "") -> Checked:
        """The same, to be checked by the roots that the wallet pinned. Raises NOT_FOUND.

        The wallet's own key needs nobody's word: whose registration was refused is registered nowhere.
        """
        wallet = self._connection.wallet
        evidence = await self.evidence(command_id, signer)
        own, channel = People(keys={wallet.address: wallet.spki}), wallet.consortium.signed_channel
        return Checked(evidence, Trust.of(wallet.consortium), channel, own)

    async def blob(self, cid: str) -> bytes:
        """A stored block: ciphertext."""
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        return (await self._connection.call(stub.GetBlob, gateway_pb2.GetBlobRequest(cid=cid))).blob
