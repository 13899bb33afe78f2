"""A root file system made of this machine's own files: what an image's base brings, without a registry.

Programs are copied with the libraries that the loader finds for them, so that the base fits what was built
here, on any distribution.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

USER = 10001
_MERGED = ("bin", "sbin", "lib", "lib64")
_FOLDERS = ("dev", "etc", "proc", "run", "sys", "usr/bin", "var/lib")
_FILES = {
    "etc/passwd": f"root:x:0:0::/root:/bin/false\ncbmdhi:x:{USER}:{USER}::/tmp:/bin/false\n",
    "etc/group": f"root:x:0:\ncbmdhi:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_NOT_OF_THE_LIBRARY = shutil.ignore_patterns(
    *("site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip"),
    *("lib2to3", "config-*", "_tkinter*"),
)
_LOADED = re.compile(r"(?:=> |^\s+)(/\S+) \(0x", re.MULTILINE)
_ELF = b"\x7fELF"


def begin(root: Path) -> None:
    """The folders and files that a program expects in any system."""
    for name in (*_FOLDERS, *(f"usr/{merged}" for merged in _MERGED)):
        (root / name).mkdir(parents=True, exist_ok=True)
    for merged in _MERGED:
        (root / merged).symlink_to(f"usr/{merged}")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    for name, text in _FILES.items():
        (root / name).write_text(text)


def add_programs(root: Path, names: Iterable[str]) -> None:
    """Programs found on PATH, into /usr/bin. Raises FileNotFoundError naming one that is not there."""
    for name in names:
        found = shutil.which(name)
        if found is None:
            raise FileNotFoundError(f"{name} is not on PATH")
        shutil.copy2(Path(found).resolve(), root / "usr" / "bin" / name)


def add_python(root: Path) -> None:
    """The interpreter that runs this, with its standard library, into /usr/local."""
    prefix, local = Path(sys.base_prefix), root / "usr" / "local"
    compiled = [Path(path).parent for path in sys.path if Path(path).name == "lib-dynload"]
    for folder in {Path(os.__file__).parent, *compiled}:
        shutil.copytree(
            folder,
            local / folder.relative_to(prefix),
            ignore=_NOT_OF_THE_LIBRARY,
            symlinks=False,
            ignore_dangling_symlinks=True,
            dirs_exist_ok=True,
        )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (local / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path(sys.executable).resolve(), local / "bin" / version)
    for link in ("python3", "python"):
        (local / "bin" / link).symlink_to(version)


def add_libraries(root: Path) -> None:
    """Every shared library that something under `root` loads and that is not there yet, at its own path."""
    programs = list(_elf_files(root))
    for library in sorted(libraries(programs)):
        if library.is_relative_to(root):
            continue
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(library.resolve(), target)


def libraries(programs: Iterable[Path]) -> set[Path]:
    """What the loader would load for all of them together."""
    said = subprocess.run(
        ["ldd", *map(str, programs)],
        capture_output=True,
        text=True,
        # One that is linked statically ends it with an error, after it has told of the others.
        check=False,
    )
    return loaded(said.stdout)


def loaded(said: str) -> set[Path]:
    """The libraries in what `ldd` said."""
    return {Path(found) for found in _LOADED.findall(said)}


def _elf_files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as stream:
                if stream.read(len(_ELF)) == _ELF:
                    yield path
