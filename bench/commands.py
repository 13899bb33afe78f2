"""The commands of testers. They join `cbmdhi` by the entry point `testers` of `cbmdhi.commands`."""

from __future__ import annotations

from cbmdhi.cli.lazy import Command

COMMANDS = (
    Command(
        "hammer",
        "bench.load.cli:hammer",
        "Send signed records at a rate, then check every receipt.",
        "Testers",
    ),
)
