"""CBMDHI: a consortium-blockchain healthcare information mesh, for those who use it.

`Client` is what an application or an integration engine imports; `Wallet` holds its keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cbmdhi.client import Client
    from cbmdhi.errors import AccessRefused, MeshError, NotCommitted
    from cbmdhi.version import __version__
    from cbmdhi.wallet import Wallet

__all__ = ["AccessRefused", "Client", "MeshError", "NotCommitted", "Wallet", "__version__"]

_HOME = {
    "Client": "cbmdhi.client",
    "Wallet": "cbmdhi.wallet",
    "AccessRefused": "cbmdhi.errors",
    "MeshError": "cbmdhi.errors",
    "NotCommitted": "cbmdhi.errors",
    "__version__": "cbmdhi.version",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the services import `cbmdhi.protocol` and need none of the client."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'cbmdhi' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
