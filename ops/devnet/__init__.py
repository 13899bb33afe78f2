"""The laptop network: two members and an ordering organisation, everything real, on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.devnet.errors import DevnetError

if TYPE_CHECKING:
    from ops.devnet.network import Network

__all__ = ["DevnetError", "Network"]


def __getattr__(name: str) -> Any:
    """Import on first use: what runs in pods has errors and files from here, and no network."""
    if name != "Network":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ops.devnet.network import Network

    return Network
