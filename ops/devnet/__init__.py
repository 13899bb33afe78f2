"""The laptop network: two members and an ordering organisation, everything real, on one machine."""

from ops.devnet.errors import DevnetError
from ops.devnet.network import Network

__all__ = ["DevnetError", "Network"]
