"""Records: signed, kept in an outbox, sent, proven. What has no certain answer is sent again as it is."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from commands import command, parse
from keys import Unanswered, uuid7, write
from proof import NotProven
from receipts import holds, prove
from session import Engine, detail_of, said

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc

_ATTEMPTS = 5
_SEND_SECONDS = 60


# [start:send]
def send(engine: Engine, patient: str, category: str, files: Sequence[Path]) -> None:
    """Write each file: signed, kept in the outbox, and only then sent."""
    for file in files:
        item = prepare(engine, patient, category, file.read_bytes())
        write(engine.state / "outbox" / item.submission_id, item.SerializeToString())
        deliver(engine)


def prepare(engine: Engine, patient: str, category: str, content: bytes) -> gateway_pb2.IngestItem:
    """Sign a new record. On the channel there is a commitment to its content, and the content is not."""
    salt = os.urandom(32)
    body = command_pb2.PutRecord(
        record_id=uuid7(),
        version=1,
        patient=patient,
        category=category,
        content_commitment=hashlib.sha256(salt + content).digest(),
        content_bytes=len(content),
    )
    signed = command(engine, command_pb2.CommandBody(put_record=body))
    return gateway_pb2.IngestItem(
        submission_id=parse(signed)[0].command_id,
        group=command_pb2.CommandGroup(commands=[signed]),
        contents=[gateway_pb2.Content(command_index=0, content=content, salt=salt)],
    )


# [end:send]


# [start:resend]
def deliver(engine: Engine) -> None:
    """Send what is in the outbox, as it was signed, until all of it has an answer.

    The command's id makes that harmless: what was done before gets its first verdict, and is not done twice.
    """
    last, asked_seconds = "", 0.0
    for attempt in range(_ATTEMPTS):
        waiting = outbox(engine)
        if not waiting:
            return
        if attempt:
            pause_seconds = 0.2 * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            time.sleep(max(pause_seconds, asked_seconds))
        try:
            stream(engine, waiting)
        except grpc.RpcError as error:
            detail = detail_of(error)
            last = said(detail)
            asked_seconds = detail.retry_after_ms / 1000
            if detail.code == code_pb2.CODE_TOO_LARGE:
                break  # the same once more is as large
            if detail.code == code_pb2.CODE_UNAUTHENTICATED:
                engine.forget_token()
    if left := outbox(engine):
        raise Unanswered(f"{len(left)} commands have no answer yet, do what the code asks for: {last}")


# [end:resend]


# [start:stream]
def stream(engine: Engine, waiting: dict[str, gateway_pb2.IngestItem]) -> None:
    """Open one stream, send everything in one message, and settle each result as it comes."""
    metadata = engine.metadata()
    stub = gateway_pb2_grpc.IngestServiceStub(engine.gateway)
    for command_id in waiting:
        print("sent", command_id, flush=True)
    request = gateway_pb2.IngestRequest(items=waiting.values())
    for response in stub.Ingest(iter([request]), timeout=_SEND_SECONDS, metadata=metadata):
        for result in response.results:
            if item := waiting.get(result.submission_id):
                settle(engine, item, result)


# [end:stream]


# [start:settle]
def settle(engine: Engine, item: gateway_pb2.IngestItem, result: gateway_pb2.IngestResult) -> None:
    """Take what was proven out of the outbox. What has no certain answer stays there, as it was signed."""
    receipt = result.receipts[0].receipt if result.receipts else None
    told = receipt or result.error
    if again(told):
        return
    command_id = item.submission_id
    try:
        entry, version = prove(engine, item.group.commands[0])
    except grpc.RpcError as error:
        is_unknown = detail_of(error).code == code_pb2.CODE_NOT_FOUND
        if is_unknown and told.outcome == code_pb2.OUTCOME_NOT_DONE:
            refused(engine, command_id, told)
            return
        raise
    if entry.code != told.code or receipt is None or entry.tx_id != receipt.tx_id:
        raise NotProven("what the gateway says is not what the members' peers hold; ask another one")
    if version is None:
        refused(engine, command_id, entry)
        return
    holds(engine, version)
    done = "proven-again" if receipt.already_committed else "proven"
    print(done, command_id, entry.tx_id, version.record_id, version.content.cid, flush=True)
    move(engine, command_id, "done")


def again(told: code_pb2.ErrorDetail) -> bool:
    """It may have been done, or nothing was and the same may be sent once more."""
    if told.outcome == code_pb2.OUTCOME_NOT_DONE:
        return told.code in (
            code_pb2.CODE_RESOURCE_EXHAUSTED,
            code_pb2.CODE_UNAVAILABLE,
            code_pb2.CODE_DEADLINE_EXCEEDED,
            code_pb2.CODE_ENDORSEMENT_FAILED,
        )
    return told.outcome != code_pb2.OUTCOME_COMMITTED


def refused(engine: Engine, command_id: str, why: code_pb2.ErrorDetail | state_pb2.AuditEntry) -> None:
    """A refusal is final; it is kept for whoever mends what was wrong, and the program ends with it."""
    print("refused", command_id, said(why), flush=True)
    move(engine, command_id, "refused")
    engine.refusals.append(said(why))


# [end:settle]


def outbox(engine: Engine) -> dict[str, gateway_pb2.IngestItem]:
    """What has no answer, by command id."""
    found: dict[str, gateway_pb2.IngestItem] = {}
    for path in sorted((engine.state / "outbox").glob("*")):
        if path.suffix != ".new":
            item = gateway_pb2.IngestItem.FromString(path.read_bytes())
            found[item.submission_id] = item
    return found


def move(engine: Engine, command_id: str, to: str) -> None:
    """Out of the outbox, as it is."""
    (engine.state / to).mkdir(mode=0o700, exist_ok=True)
    (engine.state / "outbox" / command_id).rename(engine.state / to / command_id)
