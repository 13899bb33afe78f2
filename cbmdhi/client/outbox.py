"""What was signed and is not known to be done: kept in the wallet's folder, to be sent again as it is.

A file for each request under WALLET/outbox, of mode 0600: it is signed, and may hold a record's content. It
goes when the members' peers prove what became of it.

What lies there and is not what this wallet signed under that name is never sent: somebody else may have put
it there, or renamed it. It is set aside with a sentence in the log, and never deleted.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.message import DecodeError, Message

from cbmdhi.client.commands import submit_group
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse, NotCommitted, NotSent, UnknownOutcome, to_be_sent
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, SubmitRequest
from cbmdhi.identity.v1.identity_pb2 import RegisterRequest, ReviewRequest
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command

if TYPE_CHECKING:
    from cbmdhi.client.connection import Connection
    from cbmdhi.client.registration import Registration

Request: TypeAlias = SubmitRequest | RegisterRequest | ReviewRequest
"""What can be sent again."""

_log = logging.getLogger("cbmdhi.client")
_KINDS = {kind.DESCRIPTOR.full_name: kind for kind in (SubmitRequest, RegisterRequest, ReviewRequest)}
# A key is released once for a decision: who did not get an answer asks anew.
_READINGS = ("access", "break_glass", "emergency_access")
_AT_ONCE = 8
_NAMED = 3


@dataclass(frozen=True)
class Kept:
    """A request that was kept. `command_id`: of its first command, by which it is found."""

    command_id: str
    request: Request
    file: Path


class Outbox:
    """The requests that one wallet keeps.

    try:
        await patient.consents.grant(provision(msp="LakesideMSP"))
    except UnknownOutcome as error:
        patient.outbox.keep(error)         # and at the next start:
    for kept in patient.outbox.list():
        await patient.resend(kept)
    """

    def __init__(self, wallet_folder: Path, address: str = "") -> None:
        """`address`: the wallet's, by which what others signed is told apart. Empty: it is not looked at."""
        self._folder = wallet_folder / "outbox"
        self._address = address

    def keep(self, what: MeshError | Message | Iterable[Message]) -> list[Kept]:
        """Keep what an error holds (`again`), or requests. Readings are left out: they are asked for anew."""
        requests = [again for one in messages_of(what) if (again := to_request(one)) is not None]
        return [self._write(request) for request in requests]

    def keep_cut(self, requests: Iterable[Message]) -> list[Kept]:
        """Keep what was cut off while its outcome was not known. For `Connection.on_cut`: whoever is cut off
        is not held up by a folder that cannot be written, the log names it."""
        try:
            kept = self.keep(requests)
        except OSError as error:
            _log.error("what was cut off could not be kept, so its outcome stays unknown: %s", error)
            return []
        if kept:
            _log.warning("cut off before the outcome of %d was known: kept in %s", len(kept), self._folder)
        return kept

    def list(self) -> list[Kept]:
        """All that can be read, oldest first. One that cannot is named in the log, and hides no other; so is
        one that is not what this wallet signed under its name, which is set aside (`*.set-aside`)."""
        found: list[Kept] = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                found.append(self.check(_read(file)))
            except Misuse as error:
                _log.warning("%s", error)
        return found

    def find(self, what: str) -> Kept:
        """By a command's id or its beginning, or a file. Raises Misuse, which names some that there are."""
        files = sorted(self._folder.glob("*.json"))
        meant = [one for one in files if one.stem.startswith(what.rstrip("…"))]
        if len(meant) == 1:
            return self.check(_read(meant[0]))
        if not meant and (os.sep in what or what.endswith(".json") or Path(what).is_file()):
            return self.check(_read(Path(what)))
        there = _some([one.stem for one in meant or files])
        how = "more than one is" if meant else "nothing was"
        raise Misuse(f"{how} kept under {what}; there are: {there}")

    def check(self, kept: Kept, address: str = "") -> Kept:
        """What is kept, when it is what its wallet signed, under that name where it lies in this outbox.
        Raises Misuse for anything else, which stays: set aside where it lies here.

        address  the wallet's, where the outbox was not told
        """
        address = address or self._address
        signers = {signed.signer for signed in commands_of(kept.request)}
        is_here = kept.file.parent.resolve() == self._folder.resolve()
        if is_here and kept.file.stem != kept.command_id:
            why = "is named otherwise than the command in it"
        elif address and address not in signers:
            why = "is not of what this wallet signed"
        else:
            return kept
        where = ""
        if is_here:
            aside = kept.file.with_suffix(".set-aside")
            with contextlib.suppress(OSError):
                kept.file.rename(aside)
                where = f"; it is {aside.name} now, and stays"
        raise Misuse(f"{kept.file} {why}, so it is not sent{where}: look at who put it there")

    def _write(self, request: Request) -> Kept:
        command_id = command.parse(commands_of(request)[0])[0].command_id
        self._folder.mkdir(mode=0o700, exist_ok=True)
        document = {
            "version": 1,
            "kind": request.DESCRIPTOR.full_name,
            "request": base64.b64encode(request.SerializeToString()).decode(),
        }
        file = self._folder / f"{command_id}.json"
        # Written whole and durable before it has its name; a file that lies there may have other rights.
        beside = file.with_suffix(".new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            json.dump(document, written)
            written.flush()
            os.fsync(written.fileno())
        beside.replace(file)
        return Kept(command_id, request, file)


class Resends:
    """Sends again what was signed, as it was signed: it is done at most once, however often it is sent."""

    def __init__(self, connection: Connection, registration: Registration, outbox: Outbox) -> None:
        self._connection = connection
        self._registration = registration
        self._outbox = outbox

    async def __call__(self, what: MeshError | Message | Kept | str | Iterable[Message]) -> list[Receipt]:
        """The receipts, proven by the members' peers, in order.

        what  an error (NotSent, UnknownOutcome, Unproven, NotAllWritten), what its `again` holds, or what the
              outbox keeps (or the command id under which it does): that goes when it is proven

        Raises NotCommitted when the channel refused one; NotSent or UnknownOutcome with what is still open,
        as often as that is so; Misuse for what cannot be sent again.
        """
        if isinstance(what, str):
            what = self._outbox.find(what)
        if isinstance(what, Kept):
            return await self._kept(what)
        requests: list[Request] = []
        for one in messages_of(what):
            if (request := to_request(one)) is None:
                raise Misuse("this is no request that can be sent again; a reading is asked for anew")
            requests.append(request)
        return await self._all(requests)

    async def _kept(self, kept: Kept) -> list[Receipt]:
        self._outbox.check(kept, self._connection.wallet.address)
        try:
            receipts = await self._send(kept.request)
        except NotCommitted as error:
            # Refused for good, which is proven as well; that nothing was done is the gateway's word alone.
            if error.outcome == code_pb2.OUTCOME_COMMITTED:
                kept.file.unlink(missing_ok=True)
            raise
        kept.file.unlink(missing_ok=True)
        return receipts

    async def _all(self, requests: Sequence[Request]) -> list[Receipt]:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(request: Request) -> list[Receipt] | MeshError:
            async with places:
                try:
                    return await self._send(request)
                except MeshError as error:
                    return error

        answers = await asyncio.gather(*(one(request) for request in requests))
        failed = [answer for answer in answers if isinstance(answer, MeshError)]
        left = [error for error in failed if isinstance(error, NotSent | UnknownOutcome)]
        if len(failed) == 1:
            raise failed[0]
        if left:
            unknown = next((error for error in left if isinstance(error, UnknownOutcome)), left[0])
            raise to_be_sent(unknown, [again for error in left for again in error.again])
        if failed:
            raise failed[0]
        return [receipt for answer in answers if not isinstance(answer, MeshError) for receipt in answer]

    async def _send(self, request: Request) -> list[Receipt]:
        if isinstance(request, SubmitRequest):
            told = await submit_group(self._connection, request.group, request.contents)
            return [entry.receipt for entry in told]
        if isinstance(request, RegisterRequest):
            return [await self._registration.send_registration(request)]
        return [(await self._registration.send_review(request)).receipt]


def messages_of(what: MeshError | Message | Iterable[Message]) -> Sequence[Message]:
    """What was signed, as an error or somebody holds it."""
    if isinstance(what, MeshError):
        return tuple(getattr(what, "again", ()))
    return (what,) if isinstance(what, Message) else tuple(what)


def commands_of(request: Message) -> Sequence[pb.SignedCommand]:
    """The signed commands in a request."""
    if isinstance(request, SubmitRequest | IngestItem):
        return request.group.commands
    if isinstance(request, RegisterRequest | ReviewRequest):
        return [request.command]
    return [request] if isinstance(request, pb.SignedCommand) else []


def to_request(message: Message) -> Request | None:
    """What is sent for it; None for what cannot be sent again, such as a reading."""
    if isinstance(message, IngestItem):
        return SubmitRequest(group=message.group, contents=message.contents)
    if isinstance(message, pb.SignedCommand):
        if command.body_of(message)[0] in _READINGS:
            return None
        return SubmitRequest(group=pb.CommandGroup(commands=[message]))
    return message if isinstance(message, SubmitRequest | RegisterRequest | ReviewRequest) else None


def _read(file: Path) -> Kept:
    try:
        document = json.loads(file.read_text())
        kind, raw = _KINDS[document["kind"]], base64.b64decode(document["request"], validate=True)
        request = kind.FromString(raw)
        return Kept(command.parse(commands_of(request)[0])[0].command_id, request, file)
    except (
        *(OSError, ValueError, KeyError, TypeError, IndexError),
        *(RecursionError, DecodeError, command.MalformedCommand),
    ) as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) else ""
        raise Misuse(f"{file} is not what is kept of something signed{why}") from error


def _some(names: Sequence[str]) -> str:
    """The first of them: a sentence with hundreds of ids helps nobody."""
    more = [f"{len(names) - _NAMED:,} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more]) or "none"
