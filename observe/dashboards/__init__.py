"""The dashboards: written here, made into JSON by `make observe-docs`, evaluated by a test."""

from __future__ import annotations

from observe.dashboards.infrastructure import FABRIC, IPFS, NATS
from observe.dashboards.objectives import SLO
from observe.dashboards.overview import OVERVIEW
from observe.dashboards.security import SECURITY
from observe.dashboards.services import GATEWAY, IDENTITY, LEDGER, NOTIFY, STORAGE

__all__ = ["ALL", "OVERVIEW"]

ALL = (OVERVIEW, GATEWAY, IDENTITY, LEDGER, NOTIFY, STORAGE, FABRIC, IPFS, NATS, SECURITY, SLO)
