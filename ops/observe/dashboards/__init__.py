"""The dashboards: written here, made into JSON by `make observe-docs`, evaluated by a test."""

from __future__ import annotations

from ops.observe.dashboards.infrastructure import FABRIC, IPFS, NATS
from ops.observe.dashboards.objectives import SLO
from ops.observe.dashboards.overview import OVERVIEW
from ops.observe.dashboards.security import SECURITY
from ops.observe.dashboards.services import GATEWAY, IDENTITY, LEDGER, NOTIFY, STORAGE

__all__ = ["ALL", "OVERVIEW"]

ALL = (OVERVIEW, GATEWAY, IDENTITY, LEDGER, NOTIFY, STORAGE, FABRIC, IPFS, NATS, SECURITY, SLO)
