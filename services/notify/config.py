"""Configuration of the notify service."""

from pydantic import Field

from services.runtime.config import Address, Nats, SignedChannelConfig


class NotifyConfig(SignedChannelConfig):
    """inbox_days        how long a notification is kept, also an unseen one; 0: for ever
    catch_up_seconds  how often the ledger is asked for new blocks when no event comes
    """

    service_name = "notify"

    ledger_address: Address
    nats: Nats
    inbox_days: float = Field(default=1_100, ge=0)
    catch_up_seconds: float = Field(default=5.0, ge=0.1, le=300)
