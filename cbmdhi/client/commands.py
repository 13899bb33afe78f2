"""Sending groups of commands, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from cbmdhi.client.connection import Connection, check_size
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.errors import NotCommitted
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import command


async def submit_group(
    connection: Connection, group: CommandGroup, contents: Sequence[gateway_pb2.Content] = ()
) -> list[gateway_pb2.RecordReceipt]:
    """Send a group. Raises NotCommitted with the first receipt that tells why, unless all is OK."""
    stub = gateway_pb2_grpc.CommandServiceStub(connection.authenticated)
    request = gateway_pb2.SubmitRequest(group=group, contents=contents)
    check_size(request)
    receipts = list((await connection.call(stub.Submit, request)).receipts)
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
