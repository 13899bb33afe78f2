"""What a person who types commands does next when one has failed: in words that hold as they are typed."""

from __future__ import annotations

import shlex
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cbmdhi.cli import unsure
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, Misuse, UnknownOutcome
from cbmdhi.protocol import consortium
from cbmdhi.wallet import Wallet
from ops.devnet.errors import NotReady
from ops.devnet.layout import Home, command_for
from ops.devnet.supervision import Supervisor

_PROBE_SECONDS = 0.5
# States of a program that supervisord does not start by itself.
_STANDS = ("STOPPED", "FATAL", "EXITED")


@dataclass(frozen=True)
class Typist:
    """Of whom, and of which network, the commands are."""

    home: Path
    wallet: str = ""
    member: str = ""

    def command(self, *words: str) -> str:
        """A command line for the same wallet and network."""
        return command_for(self.home, *words, *(("-w", shlex.quote(self.wallet)) if self.wallet else ()))


@dataclass(frozen=True)
class Hint:
    """Sentences under an error, and the same for machines."""

    lines: list[str] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)


def of(error: MeshError, typist: Typist, wallet: Wallet) -> Hint:
    """What to do about an error, where more is known than its own sentence says."""
    if isinstance(error, UnknownOutcome):
        left = unknown(unsure.keep(wallet.folder, error.again), typist)
        return Hint([*left.lines, *_reach(error, typist, wallet)], left.document)
    if reach := _reach(error, typist, wallet):
        return Hint(reach)
    if not isinstance(error, Misuse) and (
        error.code == code_pb2.CODE_UNAUTHENTICATED or not wallet.certificate_pem
    ):
        show = typist.command("wallet", "show")
        return Hint([f"enrol and register the wallet first, if it is not: {show} says what is next"])
    return Hint()


def down(typist: Typist, wallet: Wallet) -> MeshError | None:
    """Why it is of no use to wait for the gateway: nothing listens there, and the home's own supervisor says
    that it does not run. None where it may be there, or the wallet is of another network."""
    member, network = _member(typist, wallet), Home(typist.home.expanduser().resolve())
    try:
        own = consortium.load(network.path / "consortium.json")
    except (OSError, ValueError):
        return None
    if own.genesis_sha256 != wallet.consortium.genesis_sha256 or not _is_refused(member.gateway.grpc):
        return None
    try:
        gateway = Supervisor(network).states().get(f"{member.name}-gateway")
        if gateway is None or gateway.state not in _STANDS:
            return None
        what = f"the gateway of {member.name} is stopped"
    except NotReady:
        what = f"the network at {network.path} is down"
    return MeshError(
        code_pb2.CODE_UNAVAILABLE, f"{what}, so nothing was sent", outcome=code_pb2.OUTCOME_NOT_DONE
    )


def _reach(error: MeshError, typist: Typist, wallet: Wallet) -> list[str]:
    if error.code not in (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_DEADLINE_EXCEEDED):
        return []
    member = _member(typist, wallet)
    others = sorted(one.name for one in wallet.consortium.members.values() if one is not member)
    lines = [
        f"asked was the gateway of {member.name}, at {member.gateway.grpc}",
        f"what runs: {command_for(typist.home, 'status')}; to start it: {command_for(typist.home, 'up')}",
    ]
    if others:
        elsewhere = f"-m {' or '.join(others)}"
        lines.append(f"but for enrolment and inbox another member's gateway does as well: {elsewhere}")
    return lines


def _member(typist: Typist, wallet: Wallet) -> consortium.Member:
    return wallet.consortium.member_named(typist.member or wallet.member)


def _is_refused(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False
    return False


def unknown(left: unsure.Unsure, typist: Typist) -> Hint:
    """Something was signed, and nobody knows what became of it."""
    looks = list(dict.fromkeys(typist.command(*signed.look) for signed in left.signed))
    resends = [typist.command("resend", command_id) for command_id in left.kept]
    lines = [
        "it may be done, or may still be. What was signed:",
        *(f"  {signed}" for signed in left.signed),
        "Typing the command again signs another one, which may be done as well. Look first:",
        *(f"  {look}" for look in looks),
    ]
    if resends:
        lines.append("Exactly this was kept, and can be sent again; it is done at most once (-m: elsewhere):")
        lines += [f"  {resend}" for resend in resends]
    document = {
        "outcome": "UNKNOWN",
        "signed": [signed.document for signed in left.signed],
        "look": looks,
        "resend": resends,
    }
    return Hint(lines, document)
