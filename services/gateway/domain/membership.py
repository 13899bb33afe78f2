"""That the commands of a group were signed as this very group: none is left out, added or put elsewhere."""

from __future__ import annotations

from cbmdhi.protocol import command, ids
from services.gateway.domain.group import Key, Parsed, invalid


def check(commands: tuple[Parsed, ...]) -> None:
    """Raises Refused with the index of the command to blame."""
    if len(commands) == 1:
        if commands[0].header.HasField("group"):
            raise invalid("the command belongs to a group of two or more: send the whole group", "group", 0)
        return
    digest = command.members_sha256([(parsed.header.body, parsed.signed.signer) for parsed in commands])
    group_id = commands[0].header.group.group_id
    keys: set[Key] = set()
    for index, parsed in enumerate(commands):
        membership = parsed.header.group
        is_named = ids.is_uuid7(group_id) and membership.group_id == group_id
        for holds, path, reason in (
            (parsed.header.HasField("group"), "group", "a command of the group does not name it"),
            (is_named, "group.group_id", "the commands name different groups, or no UUIDv7"),
            (membership.size == len(commands), "group.size", "not the number of commands in the group"),
            (membership.index == index, "group.index", "not the command's place in the group"),
            (
                membership.members_sha256 == digest,
                "group.members_sha256",
                "does not match the bodies and signers of the group",
            ),
            (parsed.key not in keys, "command_id", "used twice in the group"),
        ):
            if not holds:
                raise invalid(reason, path, index)
        keys.add(parsed.key)
