"""Write the test vectors by which a client in another language checks itself (README.md beside this).

`make vectors`. Keys, times and signatures are the same each time; what is sealed stays as it is in the file
for as long as it opens. So a file changes only when the protocol does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.vectors import commands, evidence, releases, sealing, sessions, state_keys
from tests.vectors.fixed import Vectors

FOLDER = Path(__file__).parent
FILES: dict[str, Callable[[Vectors], Vectors]] = {
    "commands.json": commands.vectors,
    "sealing.json": sealing.vectors,
    "release.json": releases.vectors,
    "sessions.json": sessions.vectors,
    "evidence.json": evidence.vectors,
    "state_keys.json": state_keys.vectors,
}
"""Who makes each file, from what it holds now."""


def read(name: str) -> Vectors:
    """What a file holds; nothing when it is not there yet."""
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    """Write all files."""
    for name, make in FILES.items():
        (FOLDER / name).write_text(json.dumps(make(read(name)), indent=1, ensure_ascii=False) + "\n")
        print(f"wrote tests/vectors/{name}")


if __name__ == "__main__":
    main()
