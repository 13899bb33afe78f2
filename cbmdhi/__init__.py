"""CBMDHI: a consortium-blockchain healthcare information mesh, for those who use it.

`Client` is what an application or an integration engine imports; `Wallet` holds its keys; `NewRecord` is what
it writes. What can go wrong is drawn in `cbmdhi.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cbmdhi.client import Client
    from cbmdhi.client.consents import provision
    from cbmdhi.client.records import NewRecord
    from cbmdhi.errors import (
        AccessRefused,
        MeshError,
        Misuse,
        NotAllWritten,
        NotCommitted,
        NotSent,
        UnknownOutcome,
        Unproven,
        WalletError,
    )
    from cbmdhi.version import __version__
    from cbmdhi.wallet import Wallet

__all__ = [
    "AccessRefused",
    "Client",
    "MeshError",
    "Misuse",
    "NewRecord",
    "NotAllWritten",
    "NotCommitted",
    "NotSent",
    "UnknownOutcome",
    "Unproven",
    "Wallet",
    "WalletError",
    "__version__",
    "provision",
]

_HOME = {
    "Client": "cbmdhi.client",
    "NewRecord": "cbmdhi.client.records",
    "provision": "cbmdhi.client.consents",
    "Wallet": "cbmdhi.wallet",
    "__version__": "cbmdhi.version",
} | dict.fromkeys(
    (
        *("AccessRefused", "MeshError", "Misuse", "NotAllWritten", "NotCommitted"),
        *("NotSent", "UnknownOutcome", "Unproven", "WalletError"),
    ),
    "cbmdhi.errors",
)


def __getattr__(name: str) -> Any:
    """Import on first use: the services import `cbmdhi.protocol` and need none of the client."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'cbmdhi' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
