"""The laptop network: two members and an ordering organisation, everything real, on one machine."""

from cbmdhi.devnet.errors import DevnetError
from cbmdhi.devnet.network import Network

__all__ = ["DevnetError", "Network"]
