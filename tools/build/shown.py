"""`make shown BY="attacks/test_overload.py content_seal_test.go"` runs the tests that docs/security.md names.

A name that ends in `_test.go` is a file of a package of chaincode/, anything else a file or folder of tests/.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTEST = (".venv/bin/python", "-m", "pytest", "-q")
_GO_TEST = re.compile(r"^func ((?:Test|Fuzz)\w+)\(", re.MULTILINE)


class NoSuchTest(Exception):
    """There is no test under that name."""


@dataclass(frozen=True)
class Command:
    """What to type, and in which folder of the checkout."""

    folder: str
    arguments: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it is typed at the top of the checkout."""
        return f"(cd {self.folder} && {shlex.join(self.arguments)})"


def commands(names: Sequence[str]) -> list[Command]:
    """What runs the tests of these names. Raises NoSuchTest."""
    found: list[Command] = []
    python = [_python(name) for name in names if not name.endswith("_test.go")]
    for name in names:
        if name.endswith("_test.go"):
            found += _go(name)
    return ([Command(".", (*PYTEST, *python))] if python else []) + found


def _python(name: str) -> str:
    path = ROOT / "tests" / name
    if not (path.is_file() or any(path.glob("**/test_*.py"))):
        raise NoSuchTest(f"tests/{name} is no test: names are those of docs/security.md")
    return f"tests/{name}"


def _go(name: str) -> list[Command]:
    files = sorted((ROOT / "chaincode").glob(name if "/" in name else f"*/{name}"))
    if not files:
        raise NoSuchTest(f"chaincode/ has no {name}: names are those of docs/security.md")
    made: list[Command] = []
    for file in files:
        tests = _GO_TEST.findall(file.read_text())
        if not tests:
            raise NoSuchTest(f"{file.name} has no test in it")
        package = f"./{file.parent.relative_to(ROOT / 'chaincode')}"
        made.append(Command("chaincode", ("go", "test", package, "-run", f"^({'|'.join(tests)})$")))
    return made


def main(names: Sequence[str]) -> int:
    """Print and run each command, also after one that failed; the exit code."""
    if not names:
        print(__doc__)
        return 2
    try:
        wanted = commands(names)
    except NoSuchTest as error:
        print(error, file=sys.stderr)
        return 2
    failed = 0
    for command in wanted:
        print(command.text, flush=True)
        failed |= subprocess.run(command.arguments, cwd=ROOT / command.folder, check=False).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
