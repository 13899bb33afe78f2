"""What a person who types commands does next when one has failed: in words that hold as they are typed."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cbmdhi.cli import boundary, lazy, prefixes, unsure
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.home import command_for, elsewhere
from cbmdhi.cli.roles import name_of_role
from cbmdhi.client.outbox import Outbox
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse, UnknownOutcome, WalletError
from cbmdhi.protocol import consortium
from cbmdhi.wallet import Wallet

_PROBE_SECONDS = 0.5
# Of many only these are named: nobody reads hundreds of ids.
_NAMED = 3
_OF_WHO_ASKS = (code_pb2.CODE_UNAUTHENTICATED, code_pb2.CODE_INACTIVE_SIGNER)
_OF_THE_SECRET = (code_pb2.CODE_UNAUTHENTICATED, code_pb2.CODE_INVALID, code_pb2.CODE_CONFLICT)


@dataclass(frozen=True)
class Typist:
    """Of whom, and of which network, the commands are."""

    home: Path
    wallet: str = ""
    member: str = ""

    def command(self, *words: str) -> str:
        """A command line for the same wallet and network."""
        return command_for(self.home, *words, *(("-w", self.wallet) if self.wallet else ()))


@dataclass(frozen=True)
class Hint:
    """Sentences under an error, and the same for machines."""

    lines: list[str] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)


Hinted = Callable[[MeshError, Typist, Wallet], Hint]


def of(error: MeshError, typist: Typist, wallet: Wallet) -> Hint:
    """What to do about an error, where more is known than its own sentence says."""
    if isinstance(error, UnknownOutcome):
        left = unknown(unsure.keep(wallet.folder, error.again), typist)
        return Hint([*left.lines, *_reach(error, typist, wallet)], left.document)
    if reach := _reach(error, typist, wallet):
        return Hint(reach)
    if not isinstance(error, Misuse) and (error.code in _OF_WHO_ASKS or not wallet.certificate_pem):
        return Hint([f"is it enrolled and registered? what is next says: {typist.command('wallet', 'show')}"])
    return Hint()


def of_enrolment(error: MeshError, typist: Typist, wallet: Wallet) -> Hint:
    """What to do when a wallet could not be enrolled."""
    if reach := _reach(error, typist, wallet):
        return Hint(reach)
    if wallet.role == pb.ROLE_PATIENT or error.code not in _OF_THE_SECRET:
        return Hint()
    return Hint(
        ["the secret is that of the last invitation, in the role of this wallet", invite(typist, wallet)]
    )


def of_registration(error: MeshError, typist: Typist, wallet: Wallet) -> Hint:
    """What to do when a wallet could not be registered."""
    if error.code == code_pb2.CODE_CONFLICT:
        return Hint([f"as what it is registered shows: {typist.command('wallet', 'show')}"])
    return of(error, typist, wallet)


def invite(typist: Typist, wallet: Wallet) -> str:
    """How a wallet of staff is invited: by whom here can do it, or by whoever can."""
    words = ("invite", wallet.address, "--role", name_of_role(wallet.role))
    for there in prefixes.wallets_in(typist.home):
        if (
            there["role"] == "ROLE_ADMINISTRATOR"
            and there["member"] == wallet.member
            and there["address"] != wallet.address
        ):
            return f"its administrator invites it: {command_for(typist.home, *words, '-w', there['name'])}"
    return (
        f"an administrator of {_member(typist, wallet).name} invites it: {elsewhere(*words, '-w', 'THEIRS')}"
    )


def enrolment(home: Path, address: str, secret: str) -> list[str]:
    """What whoever was invited types: for their wallet where it lies here, else at a machine of theirs."""
    name = next((one["name"] for one in prefixes.wallets_in(home) if one["address"] == address), "")
    words = ("wallet", "enrol", "-w", name or "WALLET")
    typed = command_for(home, *words) if name else elsewhere(*words)
    return [
        f"the secret, shown once: {secret}",
        f"they type: CBMDHI_INVITATION={shlex.quote(secret)} {typed}",
    ]


def to_start(home: Path, says: str = "to start it") -> list[str]:
    """How a network on this machine is started, where the commands of operators are."""
    return [f"{says}: {command_for(home, 'up')}"] if lazy.is_here("up") else []


def failure(error: MeshError, typist: Typist, wallet: Wallet, hinted: Hinted = of) -> Failure:
    """An error as the person is told it, with what to do next."""
    told, hint = boundary.failure_of(error), hinted(error, typist, wallet)
    if isinstance(error, WalletError) and not wallet.certificate_pem:
        told.reason = "this wallet is not enrolled yet"
    told.next_steps, told.document = (*told.next_steps, *hint.lines), hint.document
    return told


def of_wallet(error: WalletError, folder: Path, home: Path) -> Failure:
    """A wallet that does not open, with those that there are or what makes one."""
    told = boundary.failure_of(error)
    if not (folder / "wallet.json").exists():
        there = sorted(file.parent.name for file in (home / "wallets").glob("*/wallet.json"))
        name = folder.name if folder.parent == home / "wallets" else str(folder)
        # What looks like an option is no name that could be typed.
        name = "NAME" if name.startswith("-") else name
        create = command_for(home, "wallet", "create", name, "-m", "MEMBER")
        told.reason = f"no wallet in {folder}"
        told.next_steps = (
            *([f"there are: {', '.join(there)}"] if there else []),
            f"to make one: {create}",
        )
    return told


def is_of(home: Path, wallet_folder: Path) -> bool:
    """True when a wallet belongs to the network at that home."""
    try:
        own, pinned = (consortium.load(folder / "consortium.json") for folder in (home, wallet_folder))
    except (OSError, ValueError):
        return False
    return own.genesis_sha256 == pinned.genesis_sha256


def down(typist: Typist, wallet: Wallet) -> MeshError | None:
    """Why it is of no use to wait for the gateway: nothing listens there, and whoever runs the home's network
    says that it does not run. None where it may be there, or the wallet is of another network."""
    member, home = _member(typist, wallet), typist.home.expanduser().resolve()
    if not is_of(home, wallet.folder) or not _is_refused(member.gateway.grpc):
        return None
    for asked in lazy.why_down():
        if (why := asked(home, f"{member.name}-gateway")) is not None:
            return MeshError(
                code_pb2.CODE_UNAVAILABLE, f"{why}, so nothing was sent", outcome=code_pb2.OUTCOME_NOT_DONE
            )
    return None


def _reach(error: MeshError, typist: Typist, wallet: Wallet) -> list[str]:
    if error.code not in (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_DEADLINE_EXCEEDED):
        return []
    member = _member(typist, wallet)
    others = sorted(one.name for one in wallet.consortium.members.values() if one is not member)
    lines = [f"asked was the gateway of {member.name}, at {member.gateway.grpc}"]
    if is_of(typist.home, wallet.folder):
        lines += [f"what runs: {command_for(typist.home, 'status')}"] if lazy.is_here("status") else []
        lines += to_start(typist.home)
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


def cut_off(began: float, typist: Typist, wallet: Wallet) -> Failure | None:
    """Ctrl-C, and since `began` (Unix time in seconds) the client has kept what may have been sent; None when
    it kept nothing."""
    there = Outbox(wallet.folder).list()
    left = unsure.of_kept(one for one in there if one.file.stat().st_mtime >= began)
    if not left.kept:
        return None
    hint = unknown(left, typist)
    return Failure(
        "INTERRUPTED",
        "interrupted after it was sent",
        status=Status.INTERRUPTED,
        next_steps=hint.lines,
        document=hint.document,
    )


def unknown(left: unsure.Unsure, typist: Typist) -> Hint:
    """Something was signed, and nobody knows what became of it."""
    looks = list(dict.fromkeys(typist.command(*signed.look) for signed in left.signed))
    resends = [typist.command("resend", command_id) for command_id in left.kept]
    if len(resends) > _NAMED:
        resends = [typist.command("resend", "--all")]
    lines = [
        "it may be done, or may still be. What was signed:",
        *_some(left.signed),
        "Typing the command again signs another one, which may be done as well. Look first:",
        *_some(looks),
    ]
    if resends:
        lines.append("Exactly this was kept, and can be sent again; it is done at most once (-m: elsewhere):")
        lines += [f"  {resend}" for resend in resends]
    if left.not_kept:
        lines.append(f"It could not be kept to be sent again, {left.not_kept}")
    document = {
        "outcome": "UNKNOWN",
        "signed": [signed.document for signed in left.signed],
        "look": looks,
        "resend": resends,
    }
    return Hint(lines, document)


def _some(things: Sequence[object]) -> list[str]:
    more = [f"  and {len(things) - _NAMED:,} more"] if len(things) > _NAMED else []
    return [*(f"  {one}" for one in things[:_NAMED]), *more]
