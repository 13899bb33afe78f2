"""What a person who types commands does next when one has failed: in words that hold as they are typed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cbmdhi.cli import unsure
from cbmdhi.devnet.layout import command_for
from cbmdhi.errors import MeshError, UnknownOutcome
from cbmdhi.wallet import Wallet


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
        return unknown(unsure.keep(wallet.folder, error.again), typist)
    return Hint()


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
