"""What the notify service is told."""

from pydantic import Field

from services.runtime.config import Address, Nats, SignedChannelConfig


class NotifyConfig(SignedChannelConfig):
    """inbox_days        how long a notification is kept, also one that nobody has seen; 0: without end
    catch_up_seconds  after which the ledger is asked for what is new though no event came
    """

    service_name = "notify"

    ledger_address: Address
    nats: Nats
    inbox_days: float = Field(default=1_100, ge=0)
    catch_up_seconds: float = Field(default=5.0, ge=0.1, le=300)
