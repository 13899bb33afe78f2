"""What a patient signs names the consents that it follows, and is signed again only if it means the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import grpc
import pytest

from cbmdhi.client.connection import Connection
from cbmdhi.client.consents import Consents, provision
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import ActiveConsent, ConsentDocument
from cbmdhi.errors import NotCommitted
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import audit_key
from tests.support.fakes.evidence import Committed
from tests.unit.cbmdhi.client.test_reading import consortium_of
from tests.unit.cbmdhi.client.test_receipts import Wallet

LET_IN = provision(msp="LakesideMSP")
KEEP_OUT = provision(msp="LakesideMSP", deny=True)


@dataclass
class Channel:
    """Keeps consents as the chaincode does: a change that does not follow what is in force is refused.

    meanwhile  done once, behind the caller's back, before the next change is looked at
    """

    committed: Committed = field(default_factory=Committed)
    document: ConsentDocument = field(default_factory=ConsentDocument)
    shown: ConsentDocument | None = None
    meanwhile: Callable[[], None] | None = None
    refused: int = 0

    @cached_property
    def authenticated(self) -> Any:
        """For the stubs; nothing is sent over it. It needs a loop, so it is made when it is used."""
        return grpc.aio.insecure_channel("127.0.0.1:1")

    def __post_init__(self) -> None:
        self.wallet = Wallet(self.committed.person("patient"), consortium_of(self.committed.network))

    async def enrolled(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        return gateway_pb2.GetProofResponse(evidence=self.committed.evidence())

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, gateway_pb2.ListConsentsRequest):
            await asyncio.sleep(0)
            answer = gateway_pb2.ListConsentsResponse()
            answer.consents.CopyFrom(self.shown or self.document)
            return answer
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        [signed] = request.group.commands
        header, _ = command.parse(signed)
        receipt, entry = self._settle(header, command.body_of(signed)[1]), self.committed.enter(signed)
        entry.code, entry.reason, entry.path = receipt.code, receipt.reason, receipt.path
        self.committed.values[audit_key(entry.command_id, entry.signer)] = entry.SerializeToString()
        return gateway_pb2.SubmitResponse(receipts=[gateway_pb2.RecordReceipt(receipt=receipt)])

    def change(self, body: Any, command_id: str) -> None:
        kept = [one for one in self.document.consents if one.consent_id != body.consent_id]
        if isinstance(body, pb.Consent):
            kept.append(ActiveConsent(consent_id=body.consent_id, provisions=body.provisions))
        self.document = ConsentDocument(
            version=self.document.version + 1, consents=kept, changed_by=command_id
        )

    def _settle(self, header: pb.Command, body: Any) -> Receipt:
        if body.follows != self.document.changed_by:
            self.refused += 1
            path = f"body.{'consent' if isinstance(body, pb.Consent) else 'revoke_consent'}.follows"
            return Receipt(
                command_id=header.command_id,
                code=code_pb2.CODE_CONFLICT,
                outcome=code_pb2.OUTCOME_COMMITTED,
                reason="look again",
                path=path,
            )
        self.change(body, header.command_id)
        return Receipt(
            command_id=header.command_id, code=code_pb2.CODE_OK, outcome=code_pb2.OUTCOME_COMMITTED
        )


def of(channel: Channel) -> Consents:
    return Consents(cast(Connection, channel))


def given(channel: Channel) -> dict[str, list[pb.Provision]]:
    return {one.consent_id: list(one.provisions) for one in channel.document.consents}


async def test_a_change_names_the_change_before_it() -> None:
    channel = Channel()
    consents = of(channel)
    first, _ = await consents.grant(LET_IN)
    second, receipt = await consents.grant(KEEP_OUT)
    assert await consents.latest() == receipt.receipt.command_id
    await consents.revoke(first)
    assert (given(channel), channel.refused) == ({second: [KEEP_OUT]}, 0)


async def test_what_another_device_did_elsewhere_meanwhile_does_not_stop_a_consent() -> None:
    channel = Channel()
    other = pb.Consent(consent_id=uuid7(), provisions=[KEEP_OUT])
    channel.meanwhile = lambda: channel.change(other, uuid7())
    mine, _ = await of(channel).grant(LET_IN)
    assert given(channel) == {other.consent_id: [KEEP_OUT], mine: [LET_IN]}


async def test_a_consent_that_was_changed_meanwhile_is_not_replaced_without_asking() -> None:
    channel = Channel()
    consents = of(channel)
    mine, _ = await consents.grant(LET_IN)
    channel.meanwhile = lambda: channel.change(pb.Consent(consent_id=mine, provisions=[KEEP_OUT]), uuid7())
    with pytest.raises(NotCommitted) as refused:
        await consents.grant(LET_IN, consent_id=mine)
    assert refused.value.code_name == "CONFLICT"
    assert (given(channel), channel.refused) == ({mine: [KEEP_OUT]}, 1)


async def test_a_consent_that_was_revoked_meanwhile_does_not_come_back() -> None:
    channel = Channel()
    consents = of(channel)
    mine, _ = await consents.grant(LET_IN)
    channel.meanwhile = lambda: channel.change(pb.RevokeConsent(consent_id=mine), uuid7())
    with pytest.raises(NotCommitted):
        await consents.grant(LET_IN, consent_id=mine)
    assert given(channel) == {}


async def test_a_peer_that_lags_behind_ones_own_last_change_is_not_believed() -> None:
    channel = Channel()
    consents = of(channel)
    channel.shown = ConsentDocument()
    first, _ = await consents.grant(LET_IN)
    await consents.revoke(first)
    assert (given(channel), channel.refused) == ({}, 0)


async def test_a_gateway_that_shows_other_consents_than_the_channels_gets_one_signature_and_no_more() -> None:
    channel = Channel(shown=ConsentDocument(version=7, changed_by=uuid7()))
    with pytest.raises(NotCommitted):
        await of(channel).grant(LET_IN)
    assert (given(channel), channel.refused) == ({}, 1)


async def test_changes_of_one_client_wait_for_each_other() -> None:
    channel = Channel()
    consents = of(channel)
    await asyncio.gather(*(consents.grant(LET_IN) for _ in range(4)))
    assert (len(given(channel)), channel.refused) == (4, 0)
