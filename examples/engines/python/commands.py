"""Commands: signed by whoever means them, and never encoded anew by anybody."""

from __future__ import annotations

import time

from keys import COMMAND, uuid7
from session import Engine

from cbmdhi.command.v1 import command_pb2


# [start:command]
def command(engine: Engine, body: command_pb2.CommandBody) -> command_pb2.SignedCommand:
    """Sign what a body means: for this channel and this beginning of it, from now for five minutes."""
    now_ms = time.time_ns() // 1_000_000
    raw = command_pb2.Command(
        command_id=uuid7(),
        channel=engine.consortium["channel"],
        genesis_sha256=engine.genesis,
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + 300_000,
        body=body.SerializeToString(),
    ).SerializeToString()
    return command_pb2.SignedCommand(
        command=raw, signature=engine.keys.sign(COMMAND, raw), signer=engine.keys.address
    )


# [end:command]


def parse(signed: command_pb2.SignedCommand) -> tuple[command_pb2.Command, command_pb2.CommandBody]:
    """Header and body of a signed command."""
    command = command_pb2.Command.FromString(signed.command)
    return command, command_pb2.CommandBody.FromString(command.body)
