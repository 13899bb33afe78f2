"""What storage asks of the channel: by the own ledger service, or of the own peer itself."""
