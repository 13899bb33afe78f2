"""An orderer that lost what it agreed to never goes on under its old Raft id.

See docs/adr/0032-a-lost-orderer.md. What an orderer has acknowledged or voted for, the others count on for
ever. One that forgot a part of it, and one that forgot all of it, could vote a second time, for a history
without blocks that peers have. So one that does not know the channel any more is taken out of those that
agree on the order, follows them until it has their blocks, and is then added, under a Raft id that never
voted.
"""

import json
import ssl
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.devnet import channel, channel_config, health
from ops.devnet.channel_config import Through
from ops.devnet.errors import CommandFailed, DevnetError
from ops.devnet.layout import Home
from ops.devnet.progress import Progress
from ops.devnet.topology import CHANNEL, ORDERING, Ports
from ops.devnet.waiting import until

# A change of the configuration; to fetch all blocks; to notice that it was added, for which a follower looks
# every ten seconds.
_CHANGE_SECONDS = 30.0
_FETCH_SECONDS = 600.0
_ADDED_SECONDS = 60.0
_INTERVAL_SECONDS = 0.5


def rejoin_lost(home: Home, ports: Ports, progress: Progress) -> list[str]:
    """Have the orderers that run, and do not know the channel any more, join it anew; their organisations.

    Raises:
        DevnetError: those that know it are no majority, or do not agree in time. Nothing is made up for them.
    """
    standing = {organisation: standing_of(home, organisation, ports) for organisation in home.orderers}
    lost = [organisation for organisation, found in standing.items() if found == {}]
    known = [organisation for organisation, found in standing.items() if found]
    if not lost:
        return []
    if len(known) <= len(home.orderers) // 2:
        raise DevnetError(
            f"The orderers of {' and '.join(lost)} have lost the channel, and with"
            f" {' and '.join(known) or 'none'} alone there is no majority that could take them in again.",
            "Start the other orderers with the state that they had when they stopped."
            " No backup gives the order back: docs/backups.md, Orderers.",
        )
    for organisation in lost:
        with progress.step(f"The orderer of {organisation} lost the channel, and joins it anew"):
            _rejoin(home, ports, organisation, known)
    return lost


def standing_of(home: Home, organisation: str, ports: Ports) -> Mapping[str, Any] | None:
    """What an orderer says of the channel (Fabric's channel participation); empty: it does not know it; None:
    it does not answer."""
    address = ports.address(organisation, "orderer_admin")
    path = f"/participation/v1/channels/{CHANNEL}"
    status, body = health.get(address, path, tls=_administrator(home, organisation))
    if status == 404:
        return {}
    return json.loads(body) if status == 200 else None


def _rejoin(home: Home, ports: Ports, organisation: str, known: list[str]) -> None:
    through = _through(home, known)
    _change(home, ports, through, organisation, channel_config.remove_consenter, wanted=False)
    with tempfile.TemporaryDirectory() as folder:
        block = Path(folder) / "config.block"
        channel_config.fetch(home, through, ports, block)
        channel.join_orderer(home, organisation, ports, block)
    _wait(home, ports, organisation, known, "follower", _FETCH_SECONDS)
    _change(home, ports, through, organisation, channel_config.add_consenter, wanted=True)
    _wait(home, ports, organisation, known, "consenter", _ADDED_SECONDS)


def _through(home: Home, known: list[str]) -> Through:
    """A majority of the organisations that order: one asks, the others sign. Of those that have a peer."""
    with_peer = [organisation for organisation in home.orderers if organisation != ORDERING]
    majority = len(home.orderers) // 2 + 1
    return Through(with_peer[0], known[0], with_peer[1:majority])


def _change(
    home: Home,
    ports: Ports,
    through: Through,
    organisation: str,
    change: Callable[[Home, Through, Ports, str], None],
    *,
    wanted: bool,
) -> None:
    """Ask for a change until it is in a block: there may be no leader yet, and an answer may be lost."""
    said = ""

    def done() -> bool:
        nonlocal said
        try:
            with tempfile.TemporaryDirectory() as folder:
                config = channel_config.fetch(home, through, ports, Path(folder) / "block")
            if channel_config.is_consenter(config, organisation, ports) is wanted:
                return True
            change(home, through, ports, organisation)
        except CommandFailed as failed:
            said = failed.problem
        return False

    what = f"The change of the orderers, for that of {organisation},"
    until(lambda: done() or None, what, _CHANGE_SECONDS, remedy=lambda: said, interval=_INTERVAL_SECONDS)


def _wait(home: Home, ports: Ports, organisation: str, known: list[str], what: str, seconds: float) -> None:
    """Until an orderer has the blocks that the others have now, and says that it is `what`."""

    goal = max((standing_of(home, other, ports) or {}).get("height", 0) for other in known)

    def there() -> bool:
        found = standing_of(home, organisation, ports) or {}
        as_wanted = (found.get("consensusRelation"), found.get("status")) == (what, "active")
        return as_wanted and found["height"] >= goal

    message = f"The orderer of {organisation} as {what}, with all blocks,"
    until(lambda: there() or None, message, seconds, interval=_INTERVAL_SECONDS)


def _administrator(home: Home, organisation: str) -> ssl.SSLContext:
    folder = home.organisation(organisation).admin / "tls"
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context
