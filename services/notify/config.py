"""What the notify service is told."""

from services.runtime.config import Address, Nats, ServiceConfig


class NotifyConfig(ServiceConfig):
    service_name = "notify"

    ledger_address: Address
    nats: Nats
