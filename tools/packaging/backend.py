"""How `cbmdhi` is built (PEP 517): by setuptools, after the code from protos/ was generated.

A clone holds no generated code: it is generated whenever something is built from one, by a grpcio-tools
that pip brings for that. A source distribution holds it, and is told by its PKG-INFO: who installs from one
needs no compiler of protos, and gets what was tested, byte for byte.
"""

from __future__ import annotations

import shutil
from typing import Any

import generate
from setuptools import build_meta
from setuptools.build_meta import get_requires_for_build_editable as _for_editable
from setuptools.build_meta import get_requires_for_build_sdist as _for_sdist
from setuptools.build_meta import get_requires_for_build_wheel as _for_wheel
from setuptools.build_meta import prepare_metadata_for_build_editable, prepare_metadata_for_build_wheel

__all__ = ["prepare_metadata_for_build_editable", "prepare_metadata_for_build_wheel"]

# That of requirements.in. What it generates runs with protobuf 5.29 and later 5s, as Fabric's protos do.
GENERATOR = "grpcio-tools==1.71.2"

_Settings = dict[str, Any] | None


def _is_clone() -> bool:
    return not (generate.ROOT / "PKG-INFO").exists()


def _generator() -> list[str]:
    return [GENERATOR] if _is_clone() else []


def _generate() -> None:
    if _is_clone():
        generate.generate(generate.ROOT)


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    """What pip has to bring before a wheel can be built."""
    return [*_for_wheel(config_settings), *_generator()]


def get_requires_for_build_sdist(config_settings: _Settings = None) -> list[str]:
    """What has to be brought before a source distribution can be built."""
    return [*_for_sdist(config_settings), *_generator()]


def get_requires_for_build_editable(config_settings: _Settings = None) -> list[str]:
    """What pip has to bring before `pip install --editable`."""
    return [*_for_editable(config_settings), *_generator()]


def build_wheel(folder: str, config_settings: _Settings = None, metadata: str | None = None) -> str:
    """Its file name, in `folder`."""
    _generate()
    # Modules that are gone since the last time would be put into the wheel from there.
    shutil.rmtree(generate.ROOT / "build" / "lib", ignore_errors=True)
    return build_meta.build_wheel(folder, config_settings, metadata)


def build_sdist(folder: str, config_settings: _Settings = None) -> str:
    """Its file name, in `folder`."""
    _generate()
    return build_meta.build_sdist(folder, config_settings)


def build_editable(folder: str, config_settings: _Settings = None, metadata: str | None = None) -> str:
    """The file name of a wheel that points to this folder."""
    if not all(path.exists() for path in generate.outputs(generate.ROOT)):
        _generate()
    return build_meta.build_editable(folder, config_settings, metadata)
