"""What a runbook says: the commands under its *Try it*, and the rest that a drill compares.

## Try it

Send records:                     while it is tried, in the background; may be left out

    python -m tests.drills.traffic

Break it:                         or *Break it until it fires*: what goes on until it is stopped then

    supervisorctl -c .devnet/supervisor/supervisord.conf signal STOP lakeside-notify

Look at it:                       while the alert fires; each command has to succeed; may be left out

    cbmdhi status | grep lakeside-notify

Mend it:                          what *What to do* says; left out where it ends by itself

    cbmdhi up
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ops.observe.docs import ROOT

FOLDER = ROOT / "docs" / "runbooks"
SEND, LOOK, MEND = "Send records", "Look at it", "Mend it"
BREAK, BREAK_ON = "Break it", "Break it until it fires"
STEPS = (SEND, BREAK, BREAK_ON, LOOK, MEND)
FOLLOWED = "Followed by `make drills`"
FOLLOWED_ON_KUBERNETES = "Followed by `make k8s-run`"

_SECTION = re.compile(r"^## (.+)\n\n((?:(?!## ).*\n)*)", re.MULTILINE)
_STEP = re.compile(rf"^({'|'.join(STEPS)}):\n\n((?:    .*\n)+)", re.MULTILINE)
# What begins as the series of our services, of Fabric, of Kubo and of etcd do; other names are settings.
_METRIC = re.compile(r"`((?:cbmdhi|ledger|gossip|consensus|ipfs|etcd|tls)(?:_[a-z0-9]+)+)(?=[`{])")


@dataclass(frozen=True)
class Page:
    """A runbook: its sections by heading."""

    alert: str
    sections: dict[str, str]

    @property
    def steps(self) -> dict[str, str]:
        """Commands by step, as they are typed in the checkout."""
        found = _STEP.findall(self.sections.get("Try it", ""))
        return {step: re.sub("^    ", "", commands, flags=re.MULTILINE).strip() for step, commands in found}

    @property
    def followed(self) -> bool:
        """True when the page says that its drill was seen to pass."""
        said = self.sections.get("Try it", "")
        return FOLLOWED in said or FOLLOWED_ON_KUBERNETES in said

    @property
    def metrics(self) -> list[str]:
        """Series that the page sends its reader to, in the order of the page."""
        return list(dict.fromkeys(_METRIC.findall("".join(self.sections.values()))))


def parse(alert: str, text: str) -> Page:
    """A page of its text."""
    return Page(alert, dict(_SECTION.findall(text)))


def read(alert: str, folder: Path = FOLDER) -> Page:
    """The page of an alert."""
    return parse(alert, (folder / f"{alert}.md").read_text(encoding="utf-8"))
