"""tests/mutants/python.toml: the modules whose rules are broken, their tests, and what survives for a reason.

A survivor is a change that no test can notice, or none has to: of one function, or of a text wherever it
stands. What changes in the words of an error alone is told by itself (`only_prose`). Run: python_mutants.py.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "mutants" / "python.toml"
_ERRORS = ("Failure", "Refusal")
_CAST = re.compile(r'\bcast\((?:"[^"]*"|[\w.]+(?:\[[^\]]*\])?),')


@dataclass(frozen=True)
class Module:
    """A file of Python and the tests that are about it, by their paths in the checkout."""

    file: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """As Python imports it."""
        return self.file.removesuffix(".py").replace("/", ".")


@dataclass(frozen=True)
class Mutant:
    """What changes in a function, wherever it stands there."""

    function: str
    was: str
    becomes: str


@dataclass(frozen=True)
class Survivor:
    """Mutants that no test can notice, or none has to."""

    mutant: Mutant
    reason: str
    times: int = 1


@dataclass(frozen=True)
class Kind:
    """A change of the text that makes no difference wherever it stands."""

    was: str
    becomes: tuple[str, ...]
    reason: str

    def is_of(self, mutant: Mutant) -> bool:
        """True when nothing else changes."""
        before, there, after = mutant.was.partition(self.was)
        return bool(there) and mutant.becomes in {f"{before}{text}{after}" for text in self.becomes}


@dataclass
class Found:
    """What became of a module's mutants; `left` survived, and `ended` met their deadline or a signal."""

    killed: int
    ended: int
    left: list[Mutant]
    # Survivors that change the prose of an error alone.
    prose: int = 0
    # Survivors of a kind that makes no difference.
    same: int = 0
    # Functions that none of the module's tests reaches, with how many mutants each has.
    unreached: Counter[str] = field(default_factory=Counter)

    def against(self, listed: Iterable[Survivor]) -> tuple[Counter[Mutant], Counter[Mutant]]:
        """The survivors that are not listed, and the listed ones that did not survive."""
        there, known = Counter(self.left), Counter[Mutant]()
        for one in listed:
            known[one.mutant] += one.times
        return there - known, known - there


def listed(path: Path = LIST) -> tuple[list[Module], list[Survivor], list[Kind]]:
    """The committed list: modules, survivors with their reasons, and what makes no difference anywhere."""
    document = tomllib.loads(path.read_text())
    modules = [Module(file, tuple(tests)) for file, tests in document["tests"].items()]
    survivors = [
        Survivor(Mutant(one["function"], one["was"], becomes), one["reason"], one.get("times", 1))
        for one in document.get("survivor", ())
        for becomes in one["becomes"]
    ]
    kinds = [Kind(one["was"], tuple(one["becomes"]), one["reason"]) for one in document.get("anywhere", ())]
    return modules, survivors, kinds


def function_of(mutant: str) -> str:
    """`cbmdhi.protocol.words.check_text` of `cbmdhi.protocol.words.x_check_text__mutmut_3`."""
    module, _, name = mutant.rpartition("__mutmut_")[0].rpartition(".")
    if name.startswith("xǁ"):
        return f"{module}.{'.'.join(name.split('ǁ')[1:])}"
    return f"{module}.{name.removeprefix('x_')}"


def change(diff: str) -> tuple[str, str]:
    """What a unified diff takes away and puts in its place."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    was, becomes = ("\n".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
    return was, becomes


def prose(source: str) -> frozenset[str]:
    """The literals of errors that are for people, as they are spelled: with a blank in them.

    An error is what is raised, or one of _ERRORS, which becomes one.
    """
    lines = [
        set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _is_failure(node.func))
    ]
    within = frozenset().union(*lines)
    return frozenset(
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.STRING and " " in token.string and token.start[0] in within
    )


def _is_failure(called: ast.expr) -> bool:
    return isinstance(called, ast.Name) and called.id in _ERRORS


def only_prose(mutant: Mutant, texts: Iterable[str]) -> bool:
    """True when nothing changes but one of `texts`: the class, code and path of an error are as before."""
    for text in texts:
        before, there, after = mutant.was.partition(text)
        if (
            there
            and len(mutant.becomes) >= len(before) + len(after)
            and mutant.becomes.startswith(before)
            and mutant.becomes.endswith(after)
        ):
            return True
    return False


def only_a_cast(mutant: Mutant) -> bool:
    """True when nothing changes but the type in a `cast`, which is for the type checker alone."""
    return mutant.was != mutant.becomes and _cast_to_any(mutant.was) == _cast_to_any(mutant.becomes)


def _cast_to_any(text: str) -> str:
    return _CAST.sub("cast(Any,", text)


def about(only: str) -> list[Module]:
    """The modules whose path holds `only`."""
    return [module for module in listed()[0] if only in module.file]
