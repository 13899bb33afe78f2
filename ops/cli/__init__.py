"""The commands of who runs a network. They join `cbmdhi` by the entry point `operators` of `cbmdhi.commands`.

Loaded at every start of `cbmdhi`: it names modules and imports none of them.
"""

from __future__ import annotations

from cbmdhi.cli.lazy import Command

_NETWORK, _OPERATORS = "Operators: the laptop network", "Operators: backups and identities"

COMMANDS = (
    Command("up", "ops.cli.network:up", "Start the laptop network; a half-dead one is mended.", _NETWORK),
    Command("down", "ops.cli.network:down", "Stop the network. Its state stays.", _NETWORK),
    Command(
        "status", "ops.cli.network:show_status", "Every program, the channel, the projections.", _NETWORK
    ),
    Command(
        "doctor",
        "ops.cli.network:show_doctor",
        "Say what is wrong with this machine or the network, and how to mend it.",
        _NETWORK,
    ),
    Command("clean", "ops.cli.network:clean", "Stop the network and forget its state.", _NETWORK),
    Command("demo", "ops.cli.demo:demo", "Tell the paper's story on the running network.", _NETWORK),
    Command("trace", "ops.cli.trace:trace", "Show one trace as a tree with times.", _NETWORK),
    Command("backup", "ops.cli.backup:backup", "Back up a member while it runs.", _OPERATORS),
    Command("restore", "ops.cli.backup:restore", "Give a member back as it was.", _OPERATORS),
    Command(
        "recovery-key",
        "ops.cli.backup:make_key",
        "Make recovery keys: backups are made with them.",
        _OPERATORS,
    ),
    Command(
        "operator-invite",
        "ops.cli.operators:operator_invite",
        "Invite a member's first administrator, with the registrar's key.",
        _OPERATORS,
    ),
    Command(
        "revoke",
        "ops.cli.revoke:revoke",
        "Refuse a stolen key, or who has left, everywhere from now on.",
        _OPERATORS,
    ),
)

WHY_DOWN = "ops.cli.operators:why_down"
