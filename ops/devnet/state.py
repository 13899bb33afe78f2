"""What is remembered about a network between two commands: ports, members, whether it was finished."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, LOCK_NB, flock

from ops.devnet.errors import DevnetError
from ops.devnet.layout import Home
from ops.devnet.templates import write
from ops.devnet.topology import POSSIBLE_MEMBERS

VERSION = 2


@dataclass(frozen=True)
class State:
    """`complete`: the channel was made and the chaincode initialised; else nothing is worth keeping.
    `members`: how many the consortium has, decided when the network is made."""

    version: int
    base_port: int
    complete: bool
    members: int


def read(home: Home) -> State | None:
    """The state, or None when there is no network at `home` yet.

    Raises:
        DevnetError: the state is unreadable, or of another version of CBMDHI.
    """
    try:
        document = json.loads(home.state_file.read_text())
        state = State(
            int(document["version"]),
            int(document["base_port"]),
            bool(document["complete"]),
            # Absent in one of another version, which is told apart below.
            int(document.get("members", 2)),
        )
        if not 2 <= state.members <= len(POSSIBLE_MEMBERS):
            raise ValueError(f"{state.members} members")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise DevnetError(
            f"{home.state_file} is damaged ({exc}).", f"Make the network anew: {anew(home)}."
        ) from exc
    if state.version != VERSION:
        raise DevnetError(
            f"The network at {home.path} was made by another version of CBMDHI.",
            f"Make it anew: {anew(home)}.",
        )
    return state


def anew(home: Home) -> str:
    """What a person types to have the network made anew."""
    return f"{home.command('clean')} (forgets its state), then {home.command('up')}"


def save(home: Home, state: State) -> None:
    """Remember the state."""
    write(home.state_file, json.dumps(asdict(state)) + "\n")


@contextmanager
def exclusively(home: Home) -> Iterator[None]:
    """Hold the network for a change; a second command is told so instead of mixing in.

    Raises:
        DevnetError: another command is at work.
    """
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with home.lock_file.open("a+") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as exc:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise DevnetError(
                f"Another command (process {holder}) is changing the network at {home.path}.",
                "Wait until it is done, or end it.",
            ) from exc
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
