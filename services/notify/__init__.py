"""The notify service: a durable inbox for each identity, filled from what was committed."""
