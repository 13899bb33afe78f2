"""`make mutants OPTIONS=--in=python`: change the pure Python piece by piece; its tests have to notice.

mutmut makes the mutants and runs, for each, the tests that reach its function. tests/mutants/python.toml
names the modules, their tests, and the survivors that break no rule, each with its reason. The run fails when
a mutant survives that is not listed there, and when one is listed that does not survive any more. What a run
found is kept in .tools/mutants: one that was broken off goes on where it was. How the tool was chosen:
CONTRIBUTING.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.build.mutant_survivors import (
    ROOT,
    Found,
    Kind,
    Module,
    Mutant,
    Survivor,
    change,
    function_of,
    listed,
    only_a_cast,
    only_prose,
    prose,
)

REQUIREMENTS = ROOT / "tests" / "mutants" / "requirements.lock"
TOOL = ROOT / ".tools" / "mutants"
# mutmut's exit codes of a mutant's tests; those of an end by a signal or its deadline are all others.
_KILLED, _SURVIVED, _UNREACHED = (1, 3), (0,), (5, 33)
# What tests leave behind has nothing to do in the checkout.
_NOT_LINKED = ("__pycache__", ".hypothesis", ".pytest_cache")
# pytest starts anew for each mutant, so it gets what the tests use and no more.
_ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_PLUGINS = ("pytest_asyncio.plugin", "tests.mutants.quick", "no:cacheprovider", "no:unraisableexception")
_PYTEST = tuple(f"-p{plugin}" for plugin in _PLUGINS)
# Its `show` starts once for each mutant; this prints the changes of all at once.
_CHANGES = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
print(json.dumps({name: get_diff_for_mutant(name) for name in json.load(sys.stdin)}))
"""


def run(modules: Sequence[Module], at_once: int, anew: bool = False) -> int:
    """How many modules have a survivor that is not listed, or miss one that is; told as they come."""
    _, survivors, kinds = listed()
    mutmut = _installed()
    began, bad, total = time.monotonic(), 0, Counter[str]()
    for number, module in enumerate(modules, 1):
        print(f"  …  {module.file} ({number} of {len(modules)})", flush=True)
        fine, figures = _run(mutmut, module, survivors, kinds, at_once, anew)
        bad += not fine
        total.update(figures)
    print(
        f"{len(modules)} modules of Python in {time.monotonic() - began:.0f} s: {_told(total)}.", flush=True
    )
    if bad:
        print(f"{bad} modules are not as tests/mutants/python.toml says.")
    return bad


def _run(
    mutmut: Path,
    module: Module,
    survivors: Sequence[Survivor],
    kinds: Sequence[Kind],
    at_once: int,
    anew: bool,
) -> tuple[bool, Mapping[str, int]]:
    began = time.monotonic()
    folder = TOOL / "run" / module.name
    codes = _verdicts(mutmut, module, folder, at_once, anew)
    if codes is None:
        return False, {}
    found = _found(mutmut, folder, codes, prose((ROOT / module.file).read_text()), kinds)
    known = [one for one in survivors if _within(one.mutant.function, module)]
    new, gone = found.against(known)
    figures = {
        "mutants": len(codes),
        "killed": found.killed,
        "ended by their deadline": found.ended,
        "of an error's words": found.prose,
        "survive for a reason": found.same + len(found.left) - new.total(),
        "survive": new.total(),
        "not reached": found.unreached.total(),
    }
    fine = not new and not gone and not found.unreached
    print(
        f"  {'✓' if fine else '✗'}  {module.file:<44} {_told(figures)}; {time.monotonic() - began:.0f} s",
        flush=True,
    )
    for one, times in new.items():
        print(f"     {one.function}: no test notices ({times})\n       - {one.was}\n       + {one.becomes}")
    for one, times in gone.items():
        print(
            f"     {one.function}: is listed, and does not survive any more ({times}): take it off the list"
        )
        print(f"       - {one.was}\n       + {one.becomes}")
    for function, count in found.unreached.items():
        print(f"     {function}: none of the tests of its module reaches it ({count} mutants)")
    return fine, figures


def _told(figures: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in figures.items())


def _within(function: str, module: Module) -> bool:
    return function.startswith(f"{module.name}.")


def _verdicts(
    mutmut: Path, module: Module, folder: Path, at_once: int, anew: bool
) -> dict[str, int | None] | None:
    """mutmut's exit code for each mutant; None when it could not do its work, which it says."""
    ready(module, folder, anew=anew)
    meta = _meta(module, folder)
    codes = _codes(meta)
    if not codes or None in codes.values():
        done = subprocess.run(
            [mutmut, "run", "--max-children", str(at_once)],
            cwd=folder,
            env={**os.environ, **_ENVIRONMENT},
            check=False,
        )
        codes = _codes(meta)
        if done.returncode != 0 or None in codes.values():
            print(
                f"  ✗  {module.file}: mutmut ended with {done.returncode}, and the same command goes on here"
            )
            return None
    return codes


def ready(module: Module, folder: Path, *, anew: bool) -> None:
    """A folder for mutmut, with what earlier runs found in it as far as that still holds."""
    code, tests = folder / "code.sha256", folder / "tests.sha256"
    wanted = _sum([ROOT / module.file, REQUIREMENTS], configuration(module))
    wanted_tests = _sum(ROOT / test for test in module.tests)
    if anew or not _is(code, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        prepare(module, folder)
        code.write_text(wanted)
    elif not _is(tests, wanted_tests):
        _forget_all_but_killed(folder, _meta(module, folder))
    tests.write_text(wanted_tests)


def _meta(module: Module, folder: Path) -> Path:
    """mutmut's own file of what it found."""
    return folder / "mutants" / f"{module.file}.meta"


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


def _sum(files: Iterable[Path], text: str = "") -> str:
    return hashlib.sha256(b"\0".join([*(file.read_bytes() for file in files), text.encode()])).hexdigest()


def _forget_all_but_killed(folder: Path, meta: Path) -> None:
    """Tests were changed: they may notice more now. Whether they notice less is for a run anew."""
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    if meta.exists():
        document = json.loads(meta.read_text())
        codes = document["exit_code_by_key"]
        document["exit_code_by_key"] = {
            name: code if code in _KILLED else None for name, code in codes.items()
        }
        meta.write_text(json.dumps(document))


def _codes(meta: Path) -> dict[str, int | None]:
    return json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}


def prepare(module: Module, folder: Path) -> None:
    """A checkout of links beside the one file that mutmut changes: tests find all else where it is."""
    target = folder / "mutants" / module.file
    target.parent.mkdir(parents=True)
    for parent in Path(module.file).parents:
        for entry in (ROOT / parent).iterdir():
            link = folder / "mutants" / parent / entry.name
            if not link.exists() and entry != ROOT / module.file and entry.name not in _NOT_LINKED:
                link.symlink_to(entry)
    source = folder / module.file
    source.parent.mkdir(parents=True)
    shutil.copy2(ROOT / module.file, source)
    (folder / "setup.cfg").write_text(configuration(module))


def configuration(module: Module) -> str:
    """mutmut's, for one module."""

    def several(key: str, values: Iterable[str]) -> str:
        return "\n  ".join([f"{key}=", *values]) + "\n"

    return "".join(
        (
            "[mutmut]\n",
            several("source_paths", [module.file]),
            several("pytest_add_cli_args_test_selection", module.tests),
            several("pytest_add_cli_args", _PYTEST),
            # Seconds, and a factor: (what the tests take without a mutant + 1 s) * 10 ends an endless one.
            "timeout_constant=1\ntimeout_multiplier=10\nuse_git_change_detection=false\n",
        )
    )


def _found(
    mutmut: Path, folder: Path, codes: Mapping[str, int | None], texts: Iterable[str], kinds: Sequence[Kind]
) -> Found:
    survived = [name for name, code in codes.items() if code in _SURVIVED]
    unreached = Counter(function_of(name) for name, code in codes.items() if code in _UNREACHED)
    killed = sum(code in _KILLED for code in codes.values())
    changes = _changes(mutmut, folder, survived)
    left = [Mutant(function_of(name), *changes[name]) for name in survived]
    same = [one for one in left if only_a_cast(one) or any(kind.is_of(one) for kind in kinds)]
    words = [one for one in left if only_prose(one, texts)]
    return Found(
        killed=killed,
        ended=len(codes) - killed - len(survived) - unreached.total(),
        left=[one for one in left if one not in words and one not in same],
        prose=len(words),
        same=len(same),
        unreached=unreached,
    )


def _changes(mutmut: Path, folder: Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    if not names:
        return {}
    told = subprocess.run(
        [mutmut.parent / "python", "-c", _CHANGES],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    return {name: change(diff) for name, diff in json.loads(told.stdout).items()}


def _installed() -> Path:
    """mutmut in an environment of its own, which sees what this one has."""
    venv, stamp = TOOL / "venv", TOOL / "requirements.lock"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", REQUIREMENTS], env=os.environ, check=True)
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        next(venv.glob("lib/python*/site-packages")).joinpath("ours.pth").write_text(f"{ours}\n")
        stamp.write_text(REQUIREMENTS.read_text())
    return venv / "bin" / "mutmut"
