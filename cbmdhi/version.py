"""Which version this is: of an installed distribution its own, of a clone what git says now."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed
from pathlib import Path

UNKNOWN = "0.0+unknown"
"""The files alone were copied: neither a distribution nor a clone."""


def version_of(root: Path) -> str:
    """The version of what lies in `root`, which holds the package `cbmdhi`.

    In a clone the metadata of an editable install tells what was true when it was made: git is asked. A
    version such as 0.2.1.dev5+g0123abc is the fifth commit after v0.2.0; `.d20261130` behind it says that
    files were changed that day.
    """
    if (root / ".git").exists():
        try:
            return _from_git(root)
        except (ImportError, LookupError, OSError, ValueError):
            pass  # without setuptools-scm, or without git
    try:
        return _installed("cbmdhi")
    except PackageNotFoundError:
        return UNKNOWN


def _from_git(root: Path) -> str:
    # Here and in the build, the same rule: that of pyproject.toml.
    import tomllib

    import setuptools_scm

    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools_scm"]
    return setuptools_scm.get_version(root=str(root), **settings)


__version__ = version_of(Path(__file__).resolve().parents[1])
