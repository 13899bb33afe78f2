"""Sending groups of commands, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from cbmdhi.client.connection import Connection, check_size
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.errors import MeshError, NotCommitted, UnknownOutcome, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import command

_UNCERTAIN = (code_pb2.OUTCOME_UNKNOWN, code_pb2.OUTCOME_UNSPECIFIED)


async def submit_group(
    connection: Connection, group: CommandGroup, contents: Sequence[gateway_pb2.Content] = ()
) -> list[gateway_pb2.RecordReceipt]:
    """Send a group. Raises NotCommitted with the first receipt that tells why, unless all is OK.

    Raises NotSent when it certainly had no effect, UnknownOutcome when nobody can tell, also by the deadline:
    their `again` holds the request, signed as it is, whose `group` and `contents` can be sent again.
    """
    stub = gateway_pb2_grpc.CommandServiceStub(connection.authenticated)
    request = gateway_pb2.SubmitRequest(group=group, contents=contents)
    try:
        check_size(request)
        receipts = list((await connection.call(stub.Submit, request)).receipts)
    except MeshError as error:
        raise to_be_sent(error, [request]) from error
    for entry in receipts:
        if entry.receipt.outcome in _UNCERTAIN:
            receipt = entry.receipt
            raise UnknownOutcome(MeshError(receipt.code, receipt.reason, receipt.path), [request])
    bad = [entry.receipt for entry in receipts if entry.receipt.code != code_pb2.CODE_OK]
    if bad:
        telling = [receipt for receipt in bad if receipt.code != code_pb2.CODE_GROUP_REFUSED]
        raise NotCommitted((telling or bad)[0])
    return receipts


async def submit(connection: Connection, *bodies: Message) -> list[gateway_pb2.RecordReceipt]:
    """Sign bodies in person, as one group, and send them."""
    wallet = connection.wallet
    channel = wallet.consortium.signed_channel
    return await submit_group(
        connection, command.make_group([(wallet, body) for body in bodies], channel=channel)
    )
