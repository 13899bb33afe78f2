"""Where the laptop network and the wallets lie, and what a person types about it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# A clone's own network, and what `make` does with it.
_DEFAULT = ".devnet"
_MADE = (("up",), ("down",), ("clean",), ("status",), ("doctor",))

DEFAULT_SHOWN = "a clone's .devnet, else ~/.cbmdhi"


def is_checkout() -> bool:
    """True in a clone of the repository, which can run a network of its own."""
    return (CHECKOUT / "Makefile").is_file() and (CHECKOUT / "protos").is_dir()


def default_home() -> Path:
    """The network's home where nobody names one: the clone's, from whatever folder a command is typed."""
    return CHECKOUT / _DEFAULT if is_checkout() else Path.home() / ".cbmdhi"


def command_for(home: Path, *words: str) -> str:
    """What a person types to have something done to the network at `home`, and to no other.

    Of the clone's own network `make` does it; of any other the command names it, whatever the environment
    of whoever types it says.
    """
    resolved = home.expanduser().resolve()
    typed = shlex.join(words)
    if resolved == default_home() and not os.environ.get("CBMDHI_HOME"):
        return f"make {typed}" if is_checkout() and words in _MADE else f"{_program()} {typed}"
    return f"{_program()} {typed} --home {shlex.quote(str(resolved))}"


def elsewhere(*words: str) -> str:
    """What somebody else types, at a machine of theirs."""
    return f"cbmdhi {shlex.join(words)}"


def _program() -> str:
    """`cbmdhi`, as it can be typed in the folder that the person is in."""
    if shutil.which("cbmdhi"):
        return "cbmdhi"
    installed, here = Path(sys.executable).with_name("cbmdhi"), Path.cwd()
    return shlex.quote(str(installed.relative_to(here) if installed.is_relative_to(here) else installed))
